// The Join door and the fleet behind it over real gRPC, with time running fast: reports every 100 ms, leases of 1.5 s.
import assert from 'node:assert/strict';
import type { ClientDuplexStream, ServiceError as GrpcError } from '@grpc/grpc-js';
import { credentials, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { Directive, JoinResponse, Report } from '@spotlight/proto';
import {
  ErrorCode,
  FleetClient,
  FleetService as FleetDefinition,
  JoinRequest,
  Submit,
  WorkerState,
} from '@spotlight/proto';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { AuthService } from '../auth/auth.service.js';
import { ServiceError } from '../errors/service-error.js';
import type { WorkerSnapshot } from './api.js';
import type { DesiredState } from './desired-state.js';
import { Fleet } from './fleet.js';
import { FleetService } from './fleet.service.js';
import { helloOf, ScriptedWorker, until } from './scripted-worker.fixture.js';

const log = pino({ level: 'silent' });
const READY: Partial<Report> = { state: WorkerState.READY, load: undefined };

/** A worker's side of Join. Repeats its last report as a worker does, until it is told to fall silent. */
class Joiner {
  readonly directives: Directive[] = [];
  error: GrpcError | undefined;
  ended = false;
  readonly #client: FleetClient;
  readonly #call: ClientDuplexStream<JoinRequest, JoinResponse>;
  #repeat: NodeJS.Timeout | undefined;

  constructor(port: number) {
    this.#client = new FleetClient(`127.0.0.1:${port}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#call = this.#client.join();
    this.#call.on('data', ({ directive }: JoinResponse) => {
      if (directive) this.directives.push(directive);
    });
    this.#call.on('error', (error: GrpcError) => {
      this.error = error;
    });
    this.#call.on('end', () => {
      this.ended = true;
    });
  }
  hello(workerId: string, address: string, joinToken = ''): this {
    const value = { ...helloOf(workerId, address), joinToken };
    this.#call.write(JoinRequest.fromPartial({ message: { $case: 'hello', value } }));
    return this;
  }
  report(report: Partial<Report> = READY): this {
    this.silence();
    const message = JoinRequest.fromPartial({ message: { $case: 'report', value: report } });
    this.#call.write(message);
    this.#repeat = setInterval(() => this.#call.write(message), 50);
    return this;
  }
  silence(): void {
    clearInterval(this.#repeat);
  }
  nothing(): this {
    this.#call.write(JoinRequest.fromPartial({}));
    return this;
  }
  leave(): void {
    this.silence();
    this.#call.end();
  }
  drop(): void {
    this.silence();
    this.#call.cancel();
    this.#client.close();
  }
}

describe('Fleet', () => {
  let worker: ScriptedWorker;
  let server: Server;
  let fleet: Fleet;
  let port: number;
  let changes: number;
  let written: [string, string][];
  let joiners: Joiner[];
  const auth = {
    authenticate: (token: string | undefined) => {
      if (token === 'bad')
        throw new ServiceError(ErrorCode.UNAUTHENTICATED, 'The join token is not known here.');
      return Promise.resolve();
    },
  } as unknown as AuthService;

  beforeEach(async () => {
    worker = await ScriptedWorker.start();
    [changes, written, joiners] = [0, [], []];
    const registry = {
      seen: (snapshot: WorkerSnapshot, _version: string, state: string) => {
        written.push([snapshot.workerId, state]);
      },
    };
    fleet = new Fleet({ reportInterval: 100, leaseTimeout: 1500 }, registry, log);
    fleet.onChange(() => changes++);
    const desired = { greet: () => Promise.resolve() } as unknown as DesiredState;
    server = new Server();
    server.addService(FleetDefinition, new FleetService(fleet, desired, auth, log).handlers());
    port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
  });
  afterEach(() => {
    for (const joiner of joiners) joiner.drop();
    fleet.onModuleDestroy();
    server.forceShutdown();
    worker.kill();
  });

  function joiner(): Joiner {
    const made = new Joiner(port);
    joiners.push(made);
    return made;
  }
  const only = (): WorkerSnapshot | undefined => fleet.snapshots()[0];
  async function joined(workerId = 'w'): Promise<Joiner> {
    const made = joiner().hello(workerId, worker.address).report();
    await until(
      () => fleet.snapshots().some((one) => one.workerId === workerId && one.state === 'ready'),
      `${workerId} to be ready`,
    );
    return made;
  }

  it('knows a worker from its hello, and as ready from its report and a stream on which it can be asked', async () => {
    const one = joiner().hello('w', worker.address);
    await until(() => only() !== undefined, 'the hello');
    assert.equal(only()?.state, 'starting');
    one.report({
      state: WorkerState.READY,
      load: { running: 2, waiting: 1, freeBlocks: 9, totalBlocks: 100, waitingTokens: 7 },
    });
    await until(() => only()?.state === 'ready', 'ready');
    assert.deepEqual(only()?.load, {
      running: 2,
      waiting: 1,
      freeBlocks: 9,
      totalBlocks: 100,
      waitingTokens: 7,
    });
    assert.ok(Object.isFrozen(only()));
    assert.ok(changes >= 2);
    assert.deepEqual(written.at(-1), ['w', 'ready']);
  });

  it('keeps a ready worker that cannot be dialled from requests', async () => {
    joiner().hello('w', '127.0.0.1:1').report();
    await until(() => only() !== undefined, 'the hello');
    await sleep(50);
    assert.equal(only()?.state, 'starting');
    assert.throws(
      () => fleet.call('w', Submit.fromPartial({ requestId: 'r' }), { onUpdate: noop, onLost: noop }),
      {
        code: ErrorCode.UNAVAILABLE,
      },
    );
  });

  it('gives equal snapshots while nothing happens, and new ones when something does', async () => {
    const one = await joined();
    assert.equal(fleet.snapshots()[0], fleet.snapshots()[0]);
    const before = only();
    fleet.call('w', Submit.fromPartial({ requestId: 'r' }), { onUpdate: noop, onLost: noop });
    assert.equal(only()?.inFlight, 1);
    assert.equal(before?.inFlight, 0);
    one.report({ state: WorkerState.DEGRADED, lastStepAgeMs: 900, message: 'stuck' });
    await until(() => only()?.state === 'degraded', 'degraded');
    assert.equal(only()?.lastStepAgeMs, 900);
    assert.equal(fleet.detail('w')?.message, 'stuck');
  });

  it('knows when a worker last stepped, by its steps and by its reports, whichever is newer', async () => {
    const one = await joined();
    const joinedAt = only()?.steppedAt ?? Number.NaN;
    one.report({ state: WorkerState.READY, lastStepAgeMs: 0, message: 'idle' });
    await until(() => fleet.detail('w')?.message === 'idle', 'the report');
    assert.ok((only()?.steppedAt ?? 0) > joinedAt, 'an idle worker counts as stepping');
    const idle = only()?.steppedAt ?? Number.NaN;
    one.report({ state: WorkerState.READY, lastStepAgeMs: 60_000, message: 'old news' });
    await until(() => fleet.detail('w')?.message === 'old news', 'the report');
    assert.equal(only()?.steppedAt, idle, 'a report does not make a step unseen');
    worker.send({ requestId: 'nobody' });
    await until(() => (only()?.steppedAt ?? 0) > idle, 'a step');
    const stepped = only()?.steppedAt;
    worker.streams.at(-1)?.write({ step: 0n, updates: [], load: { ...only()!.load, waiting: 5 } });
    await until(() => only()?.load.waiting === 5, 'news outside a step');
    assert.equal(only()?.steppedAt, stepped);
  });

  it('lets a worker go with its stream; what runs on it runs on', async () => {
    const one = await joined();
    const updates: unknown[] = [];
    const lost: unknown[] = [];
    fleet.call('w', Submit.fromPartial({ requestId: 'r' }), {
      onUpdate: (update) => updates.push(update),
      onLost: (error) => lost.push(error),
    });
    await until(() => worker.received.length === 1, 'the submit');
    one.drop();
    await until(() => only() === undefined, 'the leave');
    assert.deepEqual(written.at(-1), ['w', 'lost']);
    worker.send({ requestId: 'r', done: true });
    await until(() => updates.length === 1, 'the answer');
    assert.deepEqual(lost, []);
    assert.throws(
      () => fleet.call('w', Submit.fromPartial({ requestId: 'n' }), { onUpdate: noop, onLost: noop }),
      {
        code: ErrorCode.UNAVAILABLE,
        message: /has just gone/,
      },
    );
  });

  it('ends the stream of a worker that leaves in order', async () => {
    const one = await joined();
    one.leave();
    await until(() => one.ended, 'the end');
    assert.equal(one.error, undefined);
    assert.equal(only(), undefined);
  });

  it('routes nothing to a silent worker, then counts it lost with all that ran on it', async () => {
    const one = await joined();
    const lost: ServiceError[] = [];
    fleet.call('w', Submit.fromPartial({ requestId: 'r' }), {
      onUpdate: noop,
      onLost: (error) => lost.push(error),
    });
    one.silence();
    await until(() => only()?.state === 'degraded', 'silence to show');
    await until(() => only() === undefined, 'the lease to end');
    assert.equal(lost[0]?.code, ErrorCode.WORKER_LOST);
    await until(() => one.error !== undefined, 'the status');
    assert.equal(one.error?.code, status.DEADLINE_EXCEEDED);
  });

  it('counts steps as signs of life between reports', async () => {
    const one = await joined();
    one.silence();
    const steps = setInterval(() => {
      worker.send();
    }, 20);
    await sleep(1_800);
    await until(() => only()?.state === 'ready', 'ready for longer than a lease');
    clearInterval(steps);
    assert.equal(only()?.load.running, 3);
  });

  it('lets the newer of two workers with one id win', async () => {
    const older = await joined();
    const second = await ScriptedWorker.start();
    joiner().hello('w', second.address).report();
    await until(() => older.error !== undefined, 'the older to be told');
    assert.equal(older.error?.code, status.ABORTED);
    assert.match(older.error.details, /give each worker an id of its own/);
    await until(() => only()?.state === 'ready', 'the newer to be ready');
    assert.equal(only()?.address, second.address);
    assert.equal(fleet.snapshots().length, 1);
    second.kill();
  });

  it('survives a worker that flaps', async () => {
    for (let i = 0; i < 30; i++) {
      const one = joiner().hello('w', worker.address).report();
      if (i % 3 === 0) await until(() => only() !== undefined, 'a join');
      one.drop();
    }
    await until(() => only() === undefined, 'the fleet to be empty');
    await joined();
    assert.equal(fleet.snapshots().length, 1);
  });

  it('refuses a bad token, garbage, a second hello and a report before hello, each with its status', async () => {
    const cases: [Joiner, status, RegExp][] = [
      [joiner().hello('w', worker.address, 'bad'), status.UNAUTHENTICATED, /token is not known/],
      [joiner().hello('', worker.address), status.INVALID_ARGUMENT, /worker_id/],
      [joiner().hello('x', 'nowhere'), status.INVALID_ARGUMENT, /serve_address must be host:port/],
      [joiner().report(), status.INVALID_ARGUMENT, /first message of a join must be hello/],
      [joiner().nothing(), status.INVALID_ARGUMENT, /first message of a join must be hello/],
      [
        joiner().hello('y', worker.address).hello('y', worker.address),
        status.INVALID_ARGUMENT,
        /only reports/,
      ],
      [
        joiner().hello('z', worker.address).report({ state: WorkerState.UNSPECIFIED }),
        status.INVALID_ARGUMENT,
        /report.state 0 is no state/,
      ],
    ];
    for (const [one, code, message] of cases) {
      await until(() => one.error !== undefined, String(message));
      assert.equal(one.error?.code, code);
      assert.match(one.error.details, message);
    }
    await until(() => fleet.snapshots().length === 0, 'the fleet to be empty');
  });

  it('hands directives down, and drains from the moment it is asked', async () => {
    const one = await joined();
    fleet.direct('w', { generation: 7n, drain: true, slots: [], reportIntervalMs: 50 });
    assert.equal(only()?.state, 'draining');
    await until(() => one.directives.length === 1, 'the directive');
    assert.equal(one.directives[0]?.generation, 7n);
    one.report({ state: WorkerState.DRAINING, generation: 7n });
    await until(() => fleet.detail('w')?.generation === 7n, 'the report');
    fleet.direct('w', { generation: 8n, drain: false, slots: [], reportIntervalMs: 50 });
    assert.equal(only()?.state, 'draining');
    one.report({ state: WorkerState.READY, generation: 8n });
    await until(() => only()?.state === 'ready', 'ready again');
    fleet.direct('nobody', { generation: 9n, drain: false, slots: [], reportIntervalMs: 50 });
  });
});

function noop(): void {
  return;
}
