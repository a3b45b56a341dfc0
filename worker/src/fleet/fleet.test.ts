// The bond to control planes over real gRPC: what is said and when, directives, and coming back after a control plane was away.
import assert from 'node:assert/strict';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status as grpcStatus } from '@grpc/grpc-js';
import type { Directive, Hello, JoinRequest, Report } from '@spotlight/proto';
import {
  ArtifactSlot,
  ArtifactStats,
  DescribeResponse,
  FleetService,
  JoinResponse,
  Load,
  WorkerState,
} from '@spotlight/proto';
import { pino } from 'pino';
import { WorkerStatus } from '../telemetry/health.js';
import { DesiredState } from './desired-state.js';
import { Transport } from '@spotlight/proto/transport';
import { dialer } from './dial.js';
import { Fleet } from './fleet.js';

type Call = ServerDuplexStream<JoinRequest, JoinResponse>;

class FakeControlPlane {
  readonly hellos: Hello[] = [];
  readonly reports: Report[] = [];
  calls: Call[] = [];
  ended = 0;
  refuse: { code: number; details: string } | undefined;
  private server = new Server();
  private wake: () => void = () => undefined;
  port = 0;

  async start(port = 0): Promise<void> {
    this.server = new Server();
    this.server.addService(FleetService, {
      join: (call: Call) => {
        this.calls.push(call);
        call.on('data', ({ message }: JoinRequest) => {
          if (message?.$case === 'hello') this.hellos.push(message.value);
          else if (message !== undefined) this.reports.push(message.value);
          if (this.refuse !== undefined) call.emit('error', this.refuse);
          this.wake();
        });
        call.on('end', () => {
          this.ended += 1;
          call.end();
          this.wake();
        });
        call.on('error', () => undefined);
      },
    });
    this.port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
  }

  direct(directive: Partial<Directive>): void {
    this.calls.at(-1)?.write(JoinResponse.fromPartial({ directive }));
  }

  async until(ready: () => boolean): Promise<void> {
    while (!ready()) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  stop(): void {
    this.server.forceShutdown();
  }
}

describe('fleet', () => {
  let controlPlane: FakeControlPlane;
  let status: WorkerStatus;
  let fleet: Fleet | undefined;
  let log: string[];
  beforeEach(async () => {
    controlPlane = new FakeControlPlane();
    await controlPlane.start();
    status = new WorkerStatus(1000, 10);
    log = [];
  });
  afterEach(async () => {
    await fleet?.leave();
    fleet = undefined;
    status.stop();
    controlPlane.stop();
  });

  function join(addresses = [`127.0.0.1:${controlPlane.port}`]): void {
    const slots = {
      list: () => [ArtifactSlot.fromPartial({ artifactDigest: 'aa', active: true })],
      onChange: () => undefined,
    };
    fleet = new Fleet({
      controlPlanes: addresses,
      serveAddress: '127.0.0.1:1',
      metricsAddress: '127.0.0.1:2',
      joinToken: 'token',
      dial: dialer(Transport.plain),
      describe: () => DescribeResponse.fromPartial({ workerId: 'w1' }),
      load: () => Load.fromPartial({ running: 3 }),
      slots,
      status,
      stats: () => [ArtifactStats.fromPartial({ artifactDigest: 'aa', tokens: 5n })],
      desired: new DesiredState(status, { want: () => undefined, inForce: true, message: '' }),
      log: pino({ level: 'info' }, { write: (line: string) => log.push(line) }),
      backoff: { firstMs: 10, mostMs: 40 },
    });
  }

  it('says hello first, then how things are, and again at once when they change', async () => {
    join();
    await controlPlane.until(() => controlPlane.reports.length === 1);
    const [hello] = controlPlane.hellos;
    assert.equal(hello?.description?.workerId, 'w1');
    assert.equal(hello.serveAddress, '127.0.0.1:1');
    assert.equal(hello.metricsAddress, '127.0.0.1:2');
    assert.equal(hello.joinToken, 'token');
    assert.equal(controlPlane.reports[0]?.state, WorkerState.STARTING);
    status.started();
    await controlPlane.until(() => controlPlane.reports.at(-1)?.state === WorkerState.READY);
    assert.equal(controlPlane.reports.at(-1)?.load?.running, 3);
    assert.equal(controlPlane.reports.at(-1)?.slots[0]?.artifactDigest, 'aa');
    assert.equal(controlPlane.reports.at(-1)?.stats[0]?.tokens, 5n);
    const started = Number(controlPlane.reports.at(-1)?.startedUnixMs);
    assert.ok(started > 0 && started <= Date.now());
    let age = 0;
    status.watch(() => ({ dead: undefined, busy: true, lastStepAgeMs: (age += 600) }));
    await controlPlane.until(() => controlPlane.reports.at(-1)?.state === WorkerState.DEGRADED);
    assert.match(controlPlane.reports.at(-1)?.message ?? '', /the last step ended/);
  });

  it('reports on the interval it is given', async () => {
    join();
    await controlPlane.until(() => controlPlane.reports.length === 1);
    controlPlane.direct({ generation: 1n, reportIntervalMs: 50 });
    const start = performance.now();
    await controlPlane.until(() => controlPlane.reports.length >= 8);
    assert.ok(performance.now() - start < 900, 'eight reports come in well under a second');
  });

  it('drains and comes back by directive, and ignores an older one', async () => {
    join();
    status.started();
    await controlPlane.until(() => controlPlane.reports.length >= 1);
    controlPlane.direct({ generation: 7n, drain: true });
    await controlPlane.until(() => controlPlane.reports.at(-1)?.generation === 7n);
    assert.equal(controlPlane.reports.at(-1)?.state, WorkerState.DRAINING);
    controlPlane.direct({ generation: 6n, drain: false });
    controlPlane.direct({ generation: 8n, drain: false });
    await controlPlane.until(() => controlPlane.reports.at(-1)?.generation === 8n);
    assert.equal(controlPlane.reports.at(-1)?.state, WorkerState.READY);
    assert.ok(log.some((line) => line.includes('an older directive was ignored')));
  });

  it('comes back to a control plane that was away, and keeps what it was told', async () => {
    join();
    status.started();
    await controlPlane.until(() => controlPlane.hellos.length === 1);
    controlPlane.direct({ generation: 3n, drain: true });
    await controlPlane.until(() => controlPlane.reports.at(-1)?.generation === 3n);
    const { port } = controlPlane;
    controlPlane.stop();
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.ok(status.draining, 'a control plane that is away takes nothing back');
    await controlPlane.start(port);
    await controlPlane.until(() => controlPlane.hellos.length === 2);
    await controlPlane.until(() => controlPlane.reports.at(-1)?.generation === 3n);
    const away = log.filter((line) => line.includes('not joined, trying again'));
    assert.ok(away.length >= 1 && away.length <= 3, `one line a reason, not one an attempt: ${away.length}`);
  });

  it('joins every control plane, whichever of them is away', async () => {
    const other = new FakeControlPlane();
    await other.start();
    join([`127.0.0.1:${controlPlane.port}`, '127.0.0.1:1', `127.0.0.1:${other.port}`]);
    await Promise.all([controlPlane, other].map((each) => each.until(() => each.hellos.length === 1)));
    other.stop();
  });

  it('says so when it is refused, and goes on trying', async () => {
    controlPlane.refuse = { code: grpcStatus.UNAUTHENTICATED, details: 'bad token' };
    join();
    await controlPlane.until(() => controlPlane.calls.length >= 4);
    const lines = log.filter((line) => line.includes('check SPOTLIGHT_JOIN_TOKEN'));
    assert.equal(lines.length, 1);
    assert.match(lines[0]!, /bad token/);
    controlPlane.refuse = undefined;
    const before = controlPlane.hellos.length;
    await controlPlane.until(() => controlPlane.hellos.length > before);
  });

  it('ends its leases when it leaves, with a last report', async () => {
    join();
    status.started();
    await controlPlane.until(() => controlPlane.reports.at(-1)?.state === WorkerState.READY);
    status.drain('shutdown', true);
    await fleet?.leave();
    assert.equal(controlPlane.ended, 1, 'leaving waits until all has been read');
    assert.equal(controlPlane.reports.at(-1)?.state, WorkerState.DRAINING);
    assert.equal(controlPlane.hellos.length, 1);
  });
});
