// The bond to one control plane: a Join stream that is opened again whenever it ends, for ever. The stream is the lease;
// losing it costs this worker nothing but new requests from there, so what runs runs on.
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { status as grpcStatus } from '@grpc/grpc-js';
import type { Directive, FleetClient, Hello, JoinResponse, Report } from '@spotlight/proto';
import { JoinRequest } from '@spotlight/proto';
import type { Logger } from 'pino';
import type { BackoffLimits } from './backoff.js';
import { waitBefore } from './backoff.js';
import type { Dial } from './dial.js';

/** A stream that lived so long was a good one: the next wait is short again. */
const HELD_MS = 5000;
/** How long the end of a lease waits for the control plane to have read all before it. */
const LEAVE_MS = 1000;

export interface LinkOptions {
  readonly dial: Dial;
  readonly address: string;
  readonly hello: () => Hello;
  readonly report: () => Report;
  readonly onDirective: (directive: Directive) => void;
  readonly log: Logger;
  readonly backoff: BackoffLimits;
}

export class ControlPlaneLink {
  private client: FleetClient | undefined;
  private call: ClientDuplexStream<JoinRequest, JoinResponse> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private failures = 0;
  private openedAt = 0;
  private blocked = false;
  private left = false;
  private wasHeld = false;
  private toldReason = '';

  constructor(private readonly options: LinkOptions) {}

  open(): void {
    if (this.left) return;
    this.openedAt = performance.now();
    this.blocked = false;
    this.client = this.options.dial(this.options.address);
    const call = this.client.join();
    this.call = call;
    call.on('data', ({ directive }: JoinResponse) => {
      this.held();
      if (directive !== undefined) this.options.onDirective(directive);
    });
    call.on('drain', () => {
      this.blocked = false;
    });
    call.on('metadata', () => {
      this.held();
    });
    call.on('error', (error: ServiceError) => {
      this.lost(
        call,
        error.code === grpcStatus.CANCELLED ? 'the stream was cancelled' : error.details,
        error.code,
      );
    });
    call.on('end', () => {
      this.lost(call, 'the control plane ended the stream', undefined);
    });
    call.write(JoinRequest.fromPartial({ message: { $case: 'hello', value: this.options.hello() } }));
    this.report();
  }

  /** Sends how things are now; skipped while the stream is held back, since a newer report will follow. */
  report(): void {
    if (this.call === undefined || this.blocked) return;
    this.blocked = !this.call.write(
      JoinRequest.fromPartial({ message: { $case: 'report', value: this.options.report() } }),
    );
  }

  /** [async] Says a last time how things are, ends the lease and does not come back. Resolves when it has been read. */
  async leave(): Promise<void> {
    this.left = true;
    clearTimeout(this.timer);
    this.blocked = false;
    this.report();
    const { call, client } = this;
    this.call = undefined;
    if (call !== undefined) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LEAVE_MS);
        // Whether its end is answered or it breaks, nothing more can be said on it.
        for (const event of ['end', 'error', 'close'] as const) {
          call.once(event, () => {
            clearTimeout(timer);
            resolve();
          });
        }
        call.end();
      });
    }
    client?.close();
  }

  private held(): void {
    if (!this.wasHeld) {
      this.options.log.info({ controlPlane: this.options.address }, 'joined');
    }
    this.wasHeld = true;
    this.failures = 0;
    this.toldReason = '';
  }

  private lost(
    call: ClientDuplexStream<JoinRequest, JoinResponse>,
    reason: string,
    code: number | undefined,
  ): void {
    if (this.call !== call) return;
    this.call = undefined;
    this.wasHeld = false;
    this.client?.close();
    if (this.left) return;
    if (performance.now() - this.openedAt > HELD_MS) this.failures = 0;
    this.failures += 1;
    // One line a reason: a control plane that is away for a day is no reason for a day of lines.
    if (reason !== this.toldReason) {
      const refused = code === grpcStatus.UNAUTHENTICATED || code === grpcStatus.PERMISSION_DENIED;
      const facts = { controlPlane: this.options.address, reason };
      if (refused)
        this.options.log.error(facts, 'the control plane refuses this worker: check SPOTLIGHT_JOIN_TOKEN');
      else this.options.log.warn(facts, 'not joined, trying again');
      this.toldReason = reason;
    }
    this.timer = setTimeout(
      () => {
        this.open();
      },
      waitBefore(this.failures, Math.random(), this.options.backoff),
    );
  }
}
