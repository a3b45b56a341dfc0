// Worker.ReadArtifact: hands a registry the bytes of the artifact this worker came with. A chunk is read when the one before it
// has left, so a file of any size takes one chunk of memory.
import { createReadStream } from 'node:fs';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { ReadArtifactRequest, ReadArtifactResponse } from '@spotlight/proto';
import type { Logger } from 'pino';

const CHUNK_BYTES = 256 * 1024;

type Call = ServerWritableStream<ReadArtifactRequest, ReadArtifactResponse>;

/** [async] Ends the call, well or not; never rejects. */
export async function readArtifact(
  call: Call,
  pathOf: (digest: string) => string | undefined,
  log: Logger,
): Promise<void> {
  const { artifactDigest } = call.request;
  const path = pathOf(artifactDigest);
  if (path === undefined) {
    const details = `this worker did not come with artifact ${artifactDigest.slice(0, 64)}`;
    call.emit('error', { code: status.NOT_FOUND, details });
    return;
  }
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
      if (!call.write({ chunk: chunk as Buffer })) await drained(call);
      if (call.cancelled) return;
    }
    call.end();
  } catch (error) {
    log.error({ err: error, path }, 'an artifact could not be read');
    call.emit('error', {
      code: status.INTERNAL,
      details: 'the worker cannot read its artifact; see its log',
    });
  }
}

function drained(call: Call): Promise<void> {
  return new Promise((resolve) => {
    call.once('drain', resolve);
    call.once('cancelled', resolve);
  });
}
