// The serving half of the scheduler benchmark, in a process of its own so that its time is the worker's alone: the real
// engine, detokenizer, metrics and gRPC server over a native engine that does nothing but draw. Or the floor: a bare
// gRPC stream that writes one empty message a step.
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { WorkerGrpcServer } from '@spotlight/worker/server/server.js';
import { EngineLoop } from '@spotlight/worker/engine/engine.js';
import { EngineMetrics } from '@spotlight/worker/telemetry/engine-metrics.js';
import { dummyDefinition } from '@spotlight/worker/tokenizer/dummy.js';
import { Tokenizer } from '@spotlight/worker/tokenizer/tokenizer.js';
import { DescribeResponse, WorkerService } from '@spotlight/proto';
import type { WorkerServer } from '@spotlight/proto';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { fakeSettings } from '../fakes/engine-info.js';
import { FakeEngine } from '../fakes/engine.js';

/** Child to parent. */
export interface Sample {
  readonly steps: number;
  /** Time the JS thread was not waiting for events, since the process began. */
  readonly activeMs: number;
  readonly cpuMs: number;
}

export const VOCABULARY = 49_152;

async function worker(stepMs: number): Promise<void> {
  const native = new FakeEngine({
    blocks: 16_384,
    vocabSize: VOCABULARY,
    maxModelLen: 1_000_000,
    maxSequences: 256,
    maxBatchTokens: 2048,
    stepMs,
    lean: true,
  });
  const tokenizer = await Tokenizer.create(dummyDefinition(VOCABULARY, 'bench'));
  const log = pino({ level: 'error' }, process.stderr);
  const facts = { modelName: 'bench', maxModelLen: 1_000_000, blockSize: 64, blocks: 16_384 };
  const registry = new Registry();
  const engine: EngineLoop = new EngineLoop({
    native,
    texts: tokenizer,
    attention: fakeSettings,
    settingsDigest: '',
    observer: new EngineMetrics(registry, facts, () => engine.load()),
    log,
  });
  const server = await WorkerGrpcServer.listen('127.0.0.1', 0, {
    engine,
    tokenizer,
    describe: () => DescribeResponse.fromPartial({}),
    validate: () => Promise.reject(new Error('nothing to validate')),
    artifactPath: () => undefined,
    closedFor: () => undefined,
    log,
  });
  report(() => native.stats().steps, server.address);
}

function floor(stepMs: number): void {
  let steps = 0;
  const service: Pick<WorkerServer, 'serve' | 'describe' | 'encode'> = {
    serve: (call) => {
      setInterval(() => {
        steps++;
        call.write({ step: BigInt(steps), updates: [], load: undefined });
      }, stepMs);
    },
    describe: (_call, reply) => {
      reply(null, DescribeResponse.fromPartial({}));
    },
    encode: (_call, reply) => {
      reply(null, { tokenIds: [], tokens: [] });
    },
  };
  const server = new Server();
  server.addService(WorkerService, service);
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error;
    report(() => steps, `127.0.0.1:${port}`);
  });
}

/** Tells the parent where to dial, and a sample whenever it asks. */
function report(steps: () => number, address: string): void {
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    const activeMs = performance.eventLoopUtilization().active;
    const sample: Sample = { steps: steps(), activeMs, cpuMs: (user + system) / 1000 };
    process.send?.(sample);
  });
  process.once('disconnect', () => {
    process.exit(0);
  });
  process.send?.(address);
}

const [, , role, stepMs] = process.argv;
if (role === 'worker') await worker(Number(stepMs));
if (role === 'floor') floor(Number(stepMs));
