// A5's source: Fleet.FetchArtifact, by which workers fetch bytes by digest from the byte they broke at. Guarded like Join, by the join
// token, since artifacts are the operator's own; a chunk is read when the one before it has left.
import type { ServerWritableStream } from '@grpc/grpc-js';
import { Inject, Injectable } from '@nestjs/common';
import type { FetchArtifactRequest, FetchArtifactResponse } from '@spotlight/proto';
import { AuthService } from '../auth/auth.service.js';
import { grpcError } from '../errors/grpc-error.js';
import { toServiceError } from '../errors/service-error.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { ArtifactsService } from './artifacts.service.js';

type FetchCall = ServerWritableStream<FetchArtifactRequest, FetchArtifactResponse>;

@Injectable()
export class ArtifactDoor {
  constructor(
    @Inject(ArtifactsService) private readonly artifacts: Pick<ArtifactsService, 'bytes'>,
    @Inject(AuthService) private readonly auth: Pick<AuthService, 'authenticate'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /** For `server.addService(FleetService.definition, …)`, beside the handlers of join. */
  handlers(): { fetchArtifact(call: FetchCall): void } {
    return {
      fetchArtifact: (call) => {
        void this.fetch(call);
      },
    };
  }

  /** [async] Ends the call, well or not; never rejects. */
  async fetch(call: FetchCall): Promise<void> {
    try {
      const { digest, offset, joinToken } = call.request;
      await this.auth.authenticate(joinToken === '' ? undefined : joinToken, 'worker');
      const { size, body } = await this.artifacts.bytes(digest, Number(offset));
      const totalBytes = BigInt(size);
      let sent = false;
      for await (const chunk of body) {
        if (call.cancelled) return;
        sent = true;
        if (!call.write({ chunk, totalBytes })) await drained(call);
      }
      if (!sent) call.write({ chunk: Buffer.alloc(0), totalBytes });
      call.end();
    } catch (error) {
      if (call.cancelled) return;
      const told = toServiceError(error);
      this.log.warn(
        { peer: call.getPeer(), reason: told.message, err: told.cause },
        'an artifact was not sent',
      );
      call.emit('error', grpcError(told));
    }
  }
}

function drained(call: FetchCall): Promise<void> {
  return new Promise((resolve) => {
    call.once('drain', resolve);
    call.once('cancelled', resolve);
  });
}
