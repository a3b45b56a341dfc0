// An S3 server in this process for tests, its objects in a temporary folder. s3rver brings no types.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { S3Client } from '@aws-sdk/client-s3';

interface Server {
  run(): Promise<{ readonly port: number }>;
  close(): Promise<void>;
}
type ServerClass = new (options: Record<string, unknown>) => Server;

export interface S3Server {
  readonly client: S3Client;
  readonly endpoint: string;
  /** Another client, which outlives close(). */
  connect(): S3Client;
  close(): Promise<void>;
}

export async function startS3(...buckets: string[]): Promise<S3Server> {
  const S3rver = createRequire(import.meta.url)('s3rver') as ServerClass;
  const directory = mkdtempSync(join(tmpdir(), 'spotlight-s3-'));
  const server = new S3rver({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory,
    configureBuckets: buckets.map((name) => ({ name })),
  });
  const { port } = await server.run();
  const endpoint = `http://127.0.0.1:${port}`;
  const connect = (): S3Client =>
    new S3Client({
      endpoint,
      forcePathStyle: true,
      region: 'us-east-1',
      maxAttempts: 1,
      credentials: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
    });
  const client = connect();
  return {
    client,
    endpoint,
    connect,
    close: async () => {
      client.destroy();
      await server.close();
      rmSync(directory, { recursive: true });
    },
  };
}
