// Who is alive: the one owner of that fact. A worker is in the fleet exactly while its Join stream lives and is not silent for
// longer than the lease; routing sees frozen snapshots. Of two workers with one id the newer wins, since the older is most
// often the same machine before a crash that its stream has not noticed.
import type { OnModuleDestroy } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import type {
  ArtifactStats,
  Directive,
  EncodeRequest,
  EncodeResponse,
  Report,
  Submit,
  ValidateResponse,
} from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import { Transport } from '@spotlight/proto/transport';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { CallListener, WorkerCall, WorkerFleet, WorkerSnapshot } from './api.js';
import type { CheckedHello } from './hello.js';
import type { Lease } from './member.js';
import { Member } from './member.js';
import { Registry } from './registry.js';
import { WorkerChannel } from './worker-channel.js';

/** Report intervals without a word before a worker gets nothing new. */
const SILENT_INTERVALS = 3;
/** A worker in its place is written down again this often, for "last seen". */
const SEEN_AGAIN_MS = 60_000;
const ENCODE_MS = 30_000;
/** Fetching the artifact over a slow line, and a prefill of the built-in text on a busy CPU. */
const VALIDATE_MS = 10 * 60_000;
const READ_ARTIFACT_MS = 10 * 60_000;

/** What the Join stream holds of the fleet. */
export interface Membership {
  /** @throws ServiceError INVALID_ARGUMENT; the stream should end with it */
  report(report: Report): void;
  /** The stream ended. Idempotent. */
  leave(): void;
}

/** Of a worker's last report. */
export interface WorkerDetail {
  /** Why it is not ready, or what keeps its directive from being in force. */
  readonly message: string;
  /** Of the directive in force. */
  readonly generation: bigint;
  readonly stats: readonly ArtifactStats[];
  readonly startedUnixMs: number;
}

@Injectable()
export class Fleet implements WorkerFleet, OnModuleDestroy {
  readonly #members = new Map<string, Member>();
  readonly #listeners = new Set<() => void>();
  readonly #watch: NodeJS.Timeout;
  #writtenAt = performance.now();

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'reportInterval' | 'leaseTimeout'>,
    @Inject(Registry) private readonly registry: Pick<Registry, 'seen'>,
    @Inject(LOG) private readonly log: Log,
    @Inject(Transport) private readonly transport = Transport.plain,
  ) {
    this.#watch = setInterval(() => {
      this.#checkLeases();
    }, config.reportInterval);
    this.#watch.unref();
  }

  join(hello: CheckedHello, lease: Lease): Membership {
    const older = this.#members.get(hello.workerId);
    if (older) {
      this.#remove(older, 'a newer worker of this id joined');
      older.lease.end(
        new ServiceError(
          ErrorCode.CONFLICT,
          `Another worker joined as "${hello.workerId}"; give each worker an id of its own.`,
        ),
      );
    }
    const channel = new WorkerChannel(
      hello.address,
      {
        onLoad: (load, stepped) => {
          member.load(load, stepped);
        },
        onConnected: (connected, reason) => {
          if (this.#members.get(member.id) !== member) return;
          this.#log(member, connected ? 'worker connected' : 'worker unreachable', reason);
          this.#changed(member);
        },
        onFault: (error) => {
          this.log.error({ err: error, worker: hello.workerId }, 'a request listener failed');
        },
      },
      this.transport,
    );
    const member = new Member(hello, lease, channel);
    this.#warnOfStrangers(hello);
    this.#members.set(member.id, member);
    this.#log(member, 'worker joined');
    this.#changed(member);
    return {
      report: (report) => {
        if (this.#members.get(member.id) !== member) return;
        const before = member.state;
        member.report(report);
        if (member.state === before) return;
        this.#log(member, `worker is ${member.state}`, member.message);
        this.#changed(member);
      },
      leave: () => {
        if (this.#members.get(member.id) === member) this.#remove(member, 'its join stream ended');
        // The lease is gone but what runs may end: the worker keeps serving when a control plane's stream breaks.
        channel.retire();
      },
    };
  }

  snapshots(): readonly WorkerSnapshot[] {
    return [...this.#members.values()].map((member) => member.snapshot());
  }

  call(workerId: string, submit: Submit, listener: CallListener): WorkerCall {
    return this.#member(workerId).channel.submit(submit, listener);
  }

  async encode(workerId: string, request: EncodeRequest): Promise<EncodeResponse> {
    return this.#member(workerId).channel.encode(request, ENCODE_MS);
  }

  /** What a worker measures of an artifact, which it fetches first where it has to. Rejects with a ServiceError. */
  async validate(workerId: string, digest: string): Promise<ValidateResponse> {
    return this.#member(workerId).channel.validate(digest, VALIDATE_MS);
  }

  /** The bytes of the artifact a worker came with, until `signal` aborts. Iterating rejects with a ServiceError. */
  readArtifact(workerId: string, digest: string, signal: AbortSignal): AsyncIterable<Buffer> {
    return this.#member(workerId).channel.readArtifact(digest, READ_ARTIFACT_MS, signal);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hands a worker its desired state; nothing when it is not here, since it gets it when it joins. */
  direct(workerId: string, directive: Directive): void {
    const member = this.#members.get(workerId);
    if (member === undefined) return;
    const before = member.state;
    member.drain = directive.drain;
    member.lease.send(directive);
    if (member.state !== before) this.#changed(member);
  }

  /** What its last report tells besides its snapshot; undefined when it is not here. */
  detail(workerId: string): WorkerDetail | undefined {
    return this.#members.get(workerId);
  }

  onModuleDestroy(): void {
    clearInterval(this.#watch);
    for (const member of [...this.#members.values()]) {
      this.#members.delete(member.id);
      member.channel.close('this server stops');
      member.lease.end(new ServiceError(ErrorCode.UNAVAILABLE, 'This server stops; join again.'));
    }
  }

  #member(workerId: string): Member {
    const member = this.#members.get(workerId);
    if (member) return member;
    throw new ServiceError(ErrorCode.UNAVAILABLE, `The worker "${workerId}" has just gone; try again.`);
  }

  #remove(member: Member, reason: string): void {
    this.#members.delete(member.id);
    this.#log(member, 'worker left', reason);
    this.registry.seen(member.snapshot(), member.hello.description.version, 'lost');
    this.#notify();
  }

  #checkLeases(): void {
    const now = performance.now();
    const again = now - this.#writtenAt > SEEN_AGAIN_MS;
    if (again) this.#writtenAt = now;
    for (const member of [...this.#members.values()]) {
      const silence = now - member.heardAt;
      if (silence > this.config.leaseTimeout) {
        const reason = `it was silent for ${Math.round(silence)} ms`;
        this.#remove(member, reason);
        member.lease.end(
          new ServiceError(
            ErrorCode.DEADLINE_EXCEEDED,
            `No report came for ${Math.round(silence)} ms; join again.`,
          ),
        );
        member.channel.close(reason);
      } else if (!member.silent && silence > SILENT_INTERVALS * this.config.reportInterval) {
        member.silent = true;
        this.#log(member, 'worker is silent');
        this.#changed(member);
      } else if (again) {
        this.registry.seen(member.snapshot(), member.hello.description.version, member.state);
      }
    }
  }

  /** One name for two models is a mistake of set-up, though not one to lose a worker for: answers would differ by chance. */
  #warnOfStrangers({ workerId, model }: CheckedHello): void {
    for (const { hello } of this.#members.values()) {
      if (hello.model.id !== model.id || hello.model.fingerprint === model.fingerprint) continue;
      this.log.warn(
        { model: model.id, workers: [hello.workerId, workerId] },
        'two workers serve different models under one name; give them two names',
      );
      return;
    }
  }

  #changed(member: Member): void {
    this.registry.seen(member.snapshot(), member.hello.description.version, member.state);
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }

  #log(member: Member, what: string, reason = ''): void {
    const { workerId, address, model } = member.hello;
    this.log.info({ worker: workerId, address, model: model.id, reason: reason || undefined }, what);
  }
}
