// One artifact to a running server: read and checked here first, then sent in ranges, each from where the server says it stands. A broken
// connection, a killed server or a killed command costs what was on its way; started again, the push goes on.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ArtifactScan } from '@spotlight/cuda/artifact';
import type { ArtifactView } from '../artifacts/artifact-view.js';
import type { UploadView } from '../artifacts/uploads.js';
import type { AdminClient } from './admin-client.js';
import { Refused, Unanswered } from './admin-client.js';
import { CliError, EXIT } from './cli-error.js';

export interface PushOptions {
  /** Digest of the artifact this one was trained on from. */
  readonly parent: string | undefined;
  /** Bytes a request; a server that is killed forgets none that it has. */
  readonly rangeBytes: number;
  /** How long to go on without a byte of progress. */
  readonly patienceMs: number;
  readonly onProgress: (offset: number, size: number) => void;
  /** A line for each thing that did not go smoothly. */
  readonly onTrouble: (line: string) => void;
}

export interface Pushed {
  readonly artifact: ArtifactView;
  /** False when the same bytes were there before. */
  readonly created: boolean;
}

const FIRST_WAIT_MS = 200;
const MAX_WAIT_MS = 5_000;

/** [async] @throws EngineError for a file that is no artifact, Refused with the server's words, CliError when patience ends */
export async function push(client: AdminClient, file: string, options: PushOptions): Promise<Pushed> {
  const { size } = await stat(file);
  const { digest } = await scanFile(file);
  const known = await client.ask<ArtifactView>('GET', `artifacts/${digest}`).catch(absentIf(404));
  if (known !== undefined && known.size !== null) return { artifact: known, created: false };
  const persistent = new Persistence(options);
  const announcement = { size, digest, ...(options.parent === undefined ? {} : { parent: options.parent }) };
  for (;;) {
    try {
      const upload = await client.try<UploadView>('POST', 'artifacts/uploads', announcement);
      persistent.progress(upload.offset);
      await sendRanges(client, file, upload, options, persistent);
      return await client.try<Pushed>('POST', `artifacts/uploads/${upload.id}/complete`);
    } catch (error) {
      if (!mayPass(error)) throw error;
      await persistent.wait(error);
    }
    // Done after all, when only the answer was lost.
    const done = await client.try<ArtifactView>('GET', `artifacts/${digest}`).catch(() => undefined);
    if (done !== undefined && done.size !== null) return { artifact: done, created: true };
  }
}

async function sendRanges(
  client: AdminClient,
  file: string,
  upload: UploadView,
  { rangeBytes, onProgress }: PushOptions,
  persistent: Persistence,
): Promise<void> {
  let { offset } = upload;
  onProgress(offset, upload.size);
  while (offset < upload.size) {
    const length = Math.min(rangeBytes, upload.size - offset);
    const body = createReadStream(file, { start: offset, end: offset + length - 1 });
    const headers = { 'upload-offset': String(offset) };
    const after = await client.upload<UploadView>('PUT', `artifacts/uploads/${upload.id}`, {
      ...{ body, length, headers },
    });
    offset = after.offset;
    persistent.progress(offset);
    onProgress(offset, upload.size);
  }
}

/** Tries again for as long as bytes arrive, and `patienceMs` longer. */
class Persistence {
  #offset = -1;
  #since = performance.now();
  #waitMs = FIRST_WAIT_MS;

  constructor(private readonly options: Pick<PushOptions, 'patienceMs' | 'onTrouble'>) {}

  progress(offset: number): void {
    if (offset <= this.#offset) return;
    this.#offset = offset;
    this.#since = performance.now();
    this.#waitMs = FIRST_WAIT_MS;
  }

  async wait(error: Error): Promise<void> {
    const waited = performance.now() - this.#since;
    if (waited + this.#waitMs > this.options.patienceMs) {
      const line = `The upload came no further for ${Math.round(waited / 1000)} s: ${error.message}`;
      throw new CliError(`${line} Run the command again to go on from there.`, EXIT.failure, {
        cause: error,
      });
    }
    this.options.onTrouble(`${error.message} Trying again.`);
    await sleep(this.#waitMs);
    this.#waitMs = Math.min(2 * this.#waitMs, MAX_WAIT_MS);
  }
}

/** Connections break, servers restart, and another connection may have moved the upload on. */
function mayPass(error: unknown): error is Error {
  if (error instanceof Unanswered) return true;
  if (!(error instanceof Refused)) return false;
  const codes = ['offset_mismatch', 'upload_broken', 'upload_busy', 'upload_not_found', 'upload_incomplete'];
  return error.status === 503 || error.status === 429 || codes.includes(error.code ?? '');
}

function absentIf(status: number): (error: unknown) => undefined {
  return (error) => {
    if (error instanceof Refused && error.status === status) return undefined;
    throw error;
  };
}

async function scanFile(file: string): Promise<{ readonly digest: string }> {
  const scan = new ArtifactScan(file);
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) scan.push(chunk as Buffer);
  return scan.end();
}
