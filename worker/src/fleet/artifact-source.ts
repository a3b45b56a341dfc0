// A5: where artifacts come from: Fleet.FetchArtifact of the control planes this worker joins, each asked in turn. One that does
// not have the artifact, or breaks off before its first byte, is passed over for the next.
import { status as grpcStatus } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import type { FetchArtifactResponse, FleetClient } from '@spotlight/proto';
import type { Piece, Source } from '../artifact/store.js';
import { StoreError } from '../artifact/store.js';

/** Longest wait for the next piece. */
const SILENT_MS = 20_000;

export function artifactSource(
  controlPlanes: readonly string[],
  joinToken: string,
  dial: (address: string) => FleetClient,
): Source {
  return async function* fetch(digest: string, offset: number): AsyncGenerator<Piece> {
    if (controlPlanes.length === 0) {
      throw new StoreError(
        'NOT_FOUND',
        `artifact ${digest} is not on this worker, and it joins no control plane to fetch it from`,
      );
    }
    let last: StoreError | undefined;
    for (const address of controlPlanes) {
      const client = dial(address);
      let begun = false;
      try {
        for await (const piece of pieces(client, digest, offset, joinToken)) {
          begun = true;
          yield piece;
        }
        return;
      } catch (error) {
        const explained = explain(error as ServiceError, address, digest);
        // Who has the bytes and cannot be reached is worth trying again; that another lacks them says little then.
        if (last === undefined || explained.code !== 'NOT_FOUND') last = explained;
        if (begun) break;
      } finally {
        client.close();
      }
    }
    if (last !== undefined) throw last;
  };
}

async function* pieces(
  client: FleetClient,
  digest: string,
  offset: number,
  joinToken: string,
): AsyncGenerator<Piece> {
  const call = client.fetchArtifact({ digest, offset: BigInt(offset), joinToken });
  const silent = setTimeout(() => {
    call.cancel();
  }, SILENT_MS);
  try {
    for await (const message of call) {
      const { chunk, totalBytes } = message as FetchArtifactResponse;
      silent.refresh();
      yield { chunk, totalBytes: Number(totalBytes) };
      silent.refresh();
    }
  } finally {
    clearTimeout(silent);
    // Also when the reader has gone away: its error would have no listener then.
    call.on('error', () => undefined);
    call.cancel();
  }
}

function explain(error: ServiceError, address: string, digest: string): StoreError {
  const { code, details } = error;
  if (code === grpcStatus.NOT_FOUND || code === grpcStatus.UNIMPLEMENTED)
    return new StoreError('NOT_FOUND', `${address} has no artifact ${digest}: ${details}`, { cause: error });
  const why =
    code === grpcStatus.CANCELLED ? `nothing came for ${SILENT_MS / 1000} s` : details || error.message;
  return new StoreError('UNREACHABLE', `artifact ${digest} cannot be fetched from ${address}: ${why}`, {
    cause: error,
  });
}
