// Starts a worker, in the order that each step needs, and stops it in the reverse. The native module comes in as an argument,
// so that everything here runs in tests without an addon.
import { readFileSync } from 'node:fs';
import { freemem, hostname } from 'node:os';
import type { ArtifactInfo, AttentionSettings, Engine, EngineOptions } from '@spotlight/cuda';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { findArtifact } from './artifact/find.js';
import { SlotTable } from './artifact/slots.js';
import type { Config } from './config/config.js';
import { EngineLoop } from './engine/engine.js';
import { DesiredState } from './fleet/desired-state.js';
import { Fleet } from './fleet/fleet.js';
import { defaultCacheFolder } from './models/cache-folder.js';
import type { ResolvedModel } from './models/resolve.js';
import { resolveModel } from './models/resolve.js';
import { joinAddress, portOf } from './server/address.js';
import { describeWorker, effectiveBackend } from './server/description.js';
import { WorkerGrpcServer } from './server/server.js';
import { EngineMetrics } from './telemetry/engine-metrics.js';
import { WorkerStatus } from './telemetry/health.js';
import { WatchServer } from './telemetry/http-server.js';
import { registerSpotlightMetrics } from './telemetry/spotlight-metrics.js';
import type { TokenizerDefinition } from './tokenizer/definition.js';
import { dummyDefinition } from './tokenizer/dummy.js';
import { definitionFromFolder } from './tokenizer/from-folder.js';
import { definitionFromGguf } from './tokenizer/from-gguf.js';
import { Tokenizer } from './tokenizer/tokenizer.js';
import { warmStep } from './warm-step.js';

const MAX_WAITING = 512;
const KV_MOST_BYTES = 4 * 2 ** 30;
const KV_LEAST_BYTES = 256 * 2 ** 20;
const CLOSE_MS = 2000;
const POLL_MS = 20;

/** What the worker needs of the native module. */
export interface NativeModule {
  createEngine(options: EngineOptions): Promise<Engine>;
  inspectArtifact(path: string): Promise<ArtifactInfo>;
  settingsDigest(settings: AttentionSettings): string;
  readonly DEFAULT_ATTENTION: AttentionSettings;
}

/** What --announce prints. */
export interface Announcement {
  readonly event: 'ready';
  readonly workerId: string;
  readonly grpc: string;
  readonly metrics: string;
  readonly model: string;
  readonly backend: string;
  /** SHA-256 hex; '' when served dense. */
  readonly artifact: string;
}

export class Worker {
  constructor(
    readonly announcement: Announcement,
    private readonly parts: {
      readonly loop: EngineLoop;
      readonly native: Engine;
      readonly grpc: WorkerGrpcServer;
      readonly watch: WatchServer;
      readonly fleet: Fleet;
      readonly status: WorkerStatus;
      readonly log: Logger;
    },
  ) {}

  /** [async] Admits nothing more, lets what runs end within `timeoutMs`, then closes everything. */
  async stop(timeoutMs: number): Promise<void> {
    const { loop, native, grpc, watch, fleet, status, log } = this.parts;
    const until = performance.now() + timeoutMs;
    const busy = (): boolean => loop.load().running + loop.load().waiting > 0;
    log.info({ ...loop.load() }, 'stopping: nothing new is admitted');
    // Routers learn it first, and the streams stay: what runs still has to go out on them.
    grpc.setServing(false);
    status.drain('shutdown', true);
    loop.drain();
    while (busy() && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (busy()) log.warn({ ...loop.load() }, 'the shutdown timeout is over, requests are ended');
    await loop.stop();
    fleet.leave();
    await grpc.close(CLOSE_MS);
    await native.dispose();
    await watch.close();
    status.stop();
    log.info('stopped');
  }
}

/** [async] A worker that serves. Throws ModelError, TokenizerError, EngineError or BindError, each one clear line. */
export async function boot(config: Config, native: NativeModule, log: Logger): Promise<Worker> {
  const status = new WorkerStatus(config.degradedAfter);
  const registry = new Registry();
  const undo: (() => unknown)[] = [
    () => {
      status.stop();
    },
  ];
  try {
    // First the watching door: a probe sees "starting" while a model downloads, not a refused connection.
    const watch = await WatchServer.listen(config.host, config.metricsPort, registry, status);
    undo.push(() => watch.close());
    // The model next: everything after depends on what it is.
    const model = await resolveModel(config.model, {
      cache: config.cache ?? defaultCacheFolder(),
      hubUrl: config.hubUrl,
      hubToken: config.hubToken,
      say: (line) => {
        log.info(line);
      },
    });
    // Device and weights in one call: the device decides how weights are laid out.
    const engine = await native.createEngine(engineOptions(config, model, native.DEFAULT_ATTENTION));
    undo.push(() => engine.dispose());
    const { info } = engine;
    log.info(
      {
        ...info.model,
        fingerprint: info.fingerprint,
        device: info.deviceName,
        isa: info.isa,
        threads: info.threads,
        blocks: info.blocks,
      },
      `loaded ${model.origin}`,
    );
    // The tokenizer after the weights, which carry it in a GGUF file.
    const definition = await tokenizerDefinition(model, engine);
    const tokenizer = await Tokenizer.create(definition, info.model.eosTokenIds);
    // The artifact before any block is filled: codes are made as keys are stored.
    const slots = new SlotTable(engine);
    await loadArtifact(config, native, engine, slots, log);
    const backend = effectiveBackend(
      { backend: attentionOf(config, native.DEFAULT_ATTENTION).backend },
      slots,
    );
    const attention = { ...attentionOf(config, native.DEFAULT_ATTENTION), backend };
    // The first step with the artifact in, so that it warms the way requests will take.
    log.info({ seconds: await warmStep(engine) }, 'warm step done');
    // The loop, then its door: from here on requests are served.
    const settingsDigest = native.settingsDigest(attention);
    const maxModelLen = Math.min(info.model.maxModelLen, config.maxModelLen ?? info.model.maxModelLen);
    const modelName = config.servedModelName ?? model.id;
    const facts = { modelName, maxModelLen, blockSize: 64, blocks: info.blocks };
    const metrics = new EngineMetrics(registry, facts, () => loop.load());
    const loop: EngineLoop = new EngineLoop({
      native: engine,
      texts: tokenizer,
      attention,
      settingsDigest,
      activeSlot: () => slots.active,
      maxModelLen,
      maxWaiting: config.maxWaiting ?? MAX_WAITING,
      observer: metrics,
      log,
    });
    undo.push(() => loop.stop());
    status.watch(() => loop.health());
    registerSpotlightMetrics(registry, {
      modelName,
      info,
      backend,
      settingsDigest,
      stats: () => engine.stats(),
      blocks: () => loop.blockCounts(),
      slots: () => slots.list(),
      lastStepAgeSeconds: () => status.lastStepAgeMs / 1000,
    });
    let workerId = config.workerId ?? '';
    const describe = () =>
      describeWorker({
        workerId,
        version: packageVersion(),
        modelId: modelName,
        origin: model.origin,
        info,
        maxModelLen,
        attention,
        settingsDigest,
        slots,
        maxWaiting: config.maxWaiting ?? MAX_WAITING,
      });
    const grpc = await WorkerGrpcServer.listen(config.host, config.grpcPort, {
      engine: loop,
      tokenizer,
      describe,
      closedFor: () => (status.draining ? 'this worker is draining; send the request to another' : undefined),
      log,
    });
    undo.push(() => grpc.close(0));
    workerId ||= `${hostname()}:${portOf(grpc.address)}`;
    // Joining last: a control plane dials back as soon as it hears of a worker.
    const host = config.advertiseHost ?? config.host;
    const desired = new DesiredState(status, slots);
    const fleet = new Fleet({
      controlPlanes: config.join ?? [],
      serveAddress: joinAddress(host, portOf(grpc.address)),
      metricsAddress: joinAddress(host, portOf(watch.address)),
      joinToken: config.joinToken ?? '',
      describe,
      load: () => loop.load(),
      slots,
      status,
      desired,
      log,
    });
    status.started();
    status.onChange(({ state, reason }) => {
      log.warn({ state, reason }, 'state changed');
    });
    grpc.setServing(true);
    const announcement: Announcement = {
      event: 'ready',
      workerId,
      grpc: grpc.address,
      metrics: watch.address,
      model: modelName,
      backend,
      artifact: slots.artifact?.digest ?? '',
    };
    log.info(announcement, 'ready');
    return new Worker(announcement, { loop, native: engine, grpc, watch, fleet, status, log });
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

function engineOptions(config: Config, model: ResolvedModel, defaults: AttentionSettings): EngineOptions {
  const given = {
    device: config.device,
    threads: config.threads,
    maxBatchTokens: config.maxBatchTokens,
    maxSequences: config.maxSequences,
    codeBits: config.codeBits,
  };
  return {
    ...withoutAbsent(given),
    model: model.source,
    isa: config.isa,
    kvBytes: config.kvMemory ?? Math.max(KV_LEAST_BYTES, Math.min(KV_MOST_BYTES, Math.floor(freemem() / 4))),
    attention: attentionOf(config, defaults),
  };
}

export function attentionOf(config: Config, defaults: AttentionSettings): AttentionSettings {
  const given = {
    backend: config.attentionBackend,
    fraction: config.attentionFraction,
    minTokens: config.attentionMinTokens,
    sink: config.attentionSink,
    recent: config.attentionRecent,
    tail: config.attentionTail,
    tailFrom: config.attentionTailFrom,
    crossover: config.attentionCrossover,
    layers: config.attentionLayers,
  };
  return { ...defaults, ...withoutAbsent(given) };
}

function withoutAbsent<T extends object>(given: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

async function tokenizerDefinition(model: ResolvedModel, engine: Engine): Promise<TokenizerDefinition> {
  if (model.tokenizerFolder !== undefined) return definitionFromFolder(model.tokenizerFolder);
  const metadata = engine.tokenizerMetadata();
  return metadata === undefined
    ? dummyDefinition(engine.info.model.vocabSize, model.origin)
    : definitionFromGguf(metadata, model.origin);
}

async function loadArtifact(
  config: Config,
  native: NativeModule,
  engine: Engine,
  slots: SlotTable,
  log: Logger,
): Promise<void> {
  const choice = await findArtifact({
    setting: config.artifact,
    fingerprint: engine.info.fingerprint,
    inspect: (path) => native.inspectArtifact(path),
  });
  if (choice.path === undefined) {
    log.warn({ reason: choice.reason }, 'no artifact: this model is served dense');
    return;
  }
  const { digest, encoder, bits, layers } = await slots.load(0, choice.path);
  log.info(
    { digest, encoder, bits, layers: layers.length, reason: choice.reason },
    `artifact ${choice.path}`,
  );
}

function packageVersion(): string {
  const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
