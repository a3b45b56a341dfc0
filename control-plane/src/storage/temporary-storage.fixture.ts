// A database in a temporary folder for tests, opened once a suite: a first open takes two seconds.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { Storage } from './storage.js';

export interface TemporaryStorage {
  readonly storage: Storage;
  readonly dataDir: string;
  remove(): Promise<void>;
}

export async function temporaryStorage(): Promise<TemporaryStorage> {
  const dataDir = mkdtempSync(join(tmpdir(), 'spotlight-db-'));
  const storage = await Storage.start(
    { data: dataDir, databaseUrl: undefined, databasePool: 1 },
    pino({ level: 'silent' }),
  );
  await storage.ready;
  return {
    storage,
    dataDir,
    remove: async () => {
      await storage.close();
      rmSync(dataDir, { recursive: true });
    },
  };
}
