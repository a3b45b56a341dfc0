// A4: the door workers join by, spotlight.v1.Fleet over gRPC. A stream is Hello, then Reports; it is refused, or it is the lease.
// Only the order of a stream's life is here; who is alive is fleet.ts.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import { Inject, Injectable } from '@nestjs/common';
import type { FleetServer, JoinRequest, JoinResponse } from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import { AuthService } from '../auth/auth.service.js';
import { invalidArgument, ServiceError, toServiceError } from '../errors/service-error.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { DesiredState } from './desired-state.js';
import type { Membership } from './fleet.js';
import { Fleet } from './fleet.js';
import { checkHello } from './hello.js';

type JoinCall = ServerDuplexStream<JoinRequest, JoinResponse>;

const HELLO_MS = 10_000;

@Injectable()
export class FleetService {
  constructor(
    @Inject(Fleet) private readonly fleet: Fleet,
    @Inject(DesiredState) private readonly desired: DesiredState,
    @Inject(AuthService) private readonly auth: AuthService,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /** For `server.addService(FleetService.definition, service.handlers())`. */
  handlers(): Pick<FleetServer, 'join'> {
    return {
      join: (call) => {
        this.join(call);
      },
    };
  }

  join(call: JoinCall): void {
    let membership: Membership | undefined;
    let over = false;
    const helloTimer = setTimeout(() => {
      end(new ServiceError(ErrorCode.DEADLINE_EXCEEDED, 'No hello came; it is the first message of a join.'));
    }, HELLO_MS);

    const leave = (): void => {
      over = true;
      clearTimeout(helloTimer);
      membership?.leave();
    };
    const end = (error: unknown): void => {
      if (over) return;
      leave();
      const { row, message } = this.#told(error, call);
      call.emit('error', { code: row.grpc, details: message });
    };

    call.on('data', (request: JoinRequest) => {
      if (over) return;
      if (membership === undefined) {
        clearTimeout(helloTimer);
        // Checking a key may wait for the database: reports that follow wait in the stream meanwhile.
        call.pause();
        this.#admit(call, request, (error) => {
          end(error);
        })
          .then((admitted) => {
            membership = admitted;
            if (over) admitted.leave();
            else call.resume();
          })
          .catch(end);
        return;
      }
      try {
        if (request.message?.$case !== 'report')
          throw invalidArgument('report', 'After hello only reports may follow.');
        membership.report(request.message.value);
      } catch (error) {
        end(error);
      }
    });
    call.on('end', () => {
      if (over) return;
      leave();
      call.end();
    });
    call.on('cancelled', leave);
    call.on('error', leave);
    call.on('close', leave);
  }

  async #admit(
    call: JoinCall,
    request: JoinRequest,
    end: (error: ServiceError) => void,
  ): Promise<Membership> {
    if (request.message?.$case !== 'hello') {
      throw invalidArgument('hello', 'The first message of a join must be hello.');
    }
    const hello = request.message.value;
    await this.auth.authenticate(hello.joinToken === '' ? undefined : hello.joinToken, 'worker');
    const checked = checkHello(hello, call.getPeer());
    // Headers now: to the worker they say that it is in, the first directive may wait for the database.
    call.sendMetadata(new Metadata());
    const membership = this.fleet.join(checked, {
      send: (directive) => {
        call.write({ directive });
      },
      end,
    });
    // A worker serves without its directive, so a database that is away holds up neither.
    this.desired.greet(checked.workerId).catch((error: unknown) => {
      this.log.warn(
        { err: error, worker: checked.workerId },
        'the desired state of a worker could not be read',
      );
    });
    return membership;
  }

  #told(error: unknown, call: JoinCall): ServiceError {
    const told = toServiceError(error);
    const err = told.code === ErrorCode.INTERNAL ? told.cause : undefined;
    this.log.warn({ peer: call.getPeer(), reason: told.message, err }, 'a join ended with an error');
    return told;
  }
}
