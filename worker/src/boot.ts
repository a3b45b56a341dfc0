// Starts a worker, each step after what it needs; when one fails, those before it are undone and the error goes up.
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { BackendName, Engine } from '@spotlight/cuda';
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { DescribeResponse } from '@spotlight/proto';
import { Transport } from '@spotlight/proto/transport';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { findArtifact } from './artifact/find.js';
import { takeRecommendation } from './artifact/take-recommendation.js';
import { SlotTable } from './artifact/slots.js';
import { ArtifactStore } from './artifact/store.js';
import { validateArtifact } from './artifact/validate.js';
import type { Config } from './config/config.js';
import type { Deployment } from './deployment.js';
import { backendOf, describeWorker, settle } from './deployment.js';
import { EngineLoop } from './engine/engine.js';
import { alsoTo } from './engine/observer.js';
import type { EngineLoopOptions } from './engine/options.js';
import { artifactSource } from './fleet/artifact-source.js';
import { DesiredState } from './fleet/desired-state.js';
import type { Dial } from './fleet/dial.js';
import { dialer } from './fleet/dial.js';
import { Fleet } from './fleet/fleet.js';
import { Reconciler } from './fleet/reconciler.js';
import { defaultCacheFolder } from './models/cache-folder.js';
import type { ResolvedModel } from './models/resolve.js';
import { resolveModel } from './models/resolve.js';
import type { Gpus, NativeModule } from './native-options.js';
import { attentionSettings, chooseDevice, engineOptions } from './native-options.js';
import { joinAddress, portOf } from './server/address.js';
import { WorkerGrpcServer } from './server/server.js';
import { ArtifactStats } from './telemetry/artifact-stats.js';
import { EngineMetrics } from './telemetry/engine-metrics.js';
import { WorkerStatus } from './telemetry/health.js';
import { WatchServer } from './telemetry/http-server.js';
import { registerSpotlightMetrics } from './telemetry/spotlight-metrics.js';
import { openTokenizer } from './tokenizer/open.js';
import type { Tokenizer } from './tokenizer/tokenizer.js';
import { warmStep } from './warm-step.js';
import { Worker } from './worker.js';

const NO_GPUS: Gpus = { devices: [], missing: [] };

/** [async] Throws ModelError, TokenizerError, EngineError or BindError, each with one clear line. */
export async function boot(config: Config, native: NativeModule, log: Logger): Promise<Worker> {
  const undo: (() => unknown)[] = [];
  try {
    return await start(config, native, log, undo);
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

async function start(
  config: Config,
  native: NativeModule,
  log: Logger,
  undo: (() => unknown)[],
): Promise<Worker> {
  const status = new WorkerStatus(config.degradedAfter);
  const registry = new Registry();
  undo.push(() => {
    status.stop();
  });
  // Before any door: its files must be good.
  const transport = Transport.load(config);
  const dial = dialer(transport);
  // First the watching door: a probe sees "starting" while a model downloads, not a refused connection.
  const watch = await WatchServer.listen(
    config.host,
    config.metricsPort,
    registry,
    status,
    transport.httpsOptions(),
  );
  undo.push(() => watch.close());
  // The model before the device: what it is decides everything after.
  const model = await findModel(config, log);
  // Device and weights in one call: the device decides how weights are laid out.
  const device = await findDevice(config, native, log);
  const plain = attentionSettings(config, native.DEFAULT_ATTENTION);
  const engine = await native.createEngine(engineOptions(config, device, model.source, plain));
  undo.push(() => engine.dispose());
  logEngine(engine, model, log);
  // The tokenizer after the weights: a GGUF file carries it.
  const tokenizer = await openTokenizer(model, engine, engine.info.model.maxModelLen);
  // The artifact before any block is filled: codes are made as keys are stored.
  const slots = new SlotTable(engine);
  const came = await loadArtifact(config, native, engine, slots, log);
  const settings = takeRecommendation(config, native, engine, slots, plain, log);
  // A step with the artifact in, so that it warms the way requests will take.
  log.info({ seconds: await warmStep(engine, settings) }, 'warm step done');
  // What is served is settled now, and the loop runs before its door opens.
  const deployment = settle(config, model, engine.info, settings, (chosen) => native.settingsDigest(chosen));
  const { crossover = 0 } = deployment.attention;
  if (backendOf(deployment, slots) === 'spotlight' && crossover > deployment.maxModelLen)
    log.info(
      { crossover, maxModelLen: deployment.maxModelLen },
      'every context of this model is served dense: retrieval is slower here; --attention-crossover 0 retrieves all the same',
    );
  const stats = new ArtifactStats();
  const loop = startLoop(config, deployment, engine, tokenizer, slots, stats, registry, log);
  undo.push(() => loop.stop());
  status.watch(() => loop.health());
  // Slots change from here on by what control planes want, between the loop's steps.
  const reconciler = openReconciler(config, native, slots, came, loop, dial, log);
  undo.push(() => {
    reconciler.stop();
  });
  const backend = (): BackendName => backendOf(deployment, slots);
  registerSpotlightMetrics(registry, {
    modelName: deployment.modelName,
    info: deployment.info,
    backend,
    settingsDigest: deployment.settingsDigest,
    stats: () => engine.stats(),
    blocks: () => loop.blockCounts(),
    slots: () => reconciler.list(),
    rehashing: () => loop.rehasher.spent,
    lastStepAgeSeconds: () => status.lastStepAgeMs / 1000,
  });
  let workerId = config.workerId ?? '';
  const describe = (): DescribeResponse => describeWorker(deployment, workerId, backend(), reconciler.list());
  const grpc = await WorkerGrpcServer.listen(
    config.host,
    config.grpcPort,
    {
      engine: loop,
      tokenizer,
      describe,
      validate: (digest) => validateArtifact(digest, { reconciler, engine: loop, tokenizer, native: engine }),
      artifactPath: (digest) => (came?.digest === digest ? came.path : undefined),
      closedFor: () => (status.draining ? 'this worker is draining; send the request to another' : undefined),
      log,
    },
    transport,
  );
  undo.push(() => grpc.close(0));
  workerId ||= `${hostname()}:${portOf(grpc.address)}`;
  // Joining after serving: a control plane dials back as soon as it hears of a worker.
  const host = config.advertiseHost ?? config.host;
  const fleet = new Fleet({
    controlPlanes: config.join ?? [],
    serveAddress: joinAddress(host, portOf(grpc.address)),
    metricsAddress: joinAddress(host, portOf(watch.address)),
    joinToken: config.joinToken ?? '',
    dial,
    describe,
    load: () => loop.load(),
    slots: reconciler,
    stats: () => stats.list(),
    status,
    desired: new DesiredState(status, reconciler),
    log,
  });
  // Ready last: from here on probes and control planes send work.
  grpc.setServing(true);
  status.started();
  status.onChange(({ state, reason }) => {
    log.warn({ state, reason }, 'state changed');
  });
  const announcement = {
    event: 'ready',
    workerId,
    grpc: grpc.address,
    metrics: watch.address,
    model: deployment.modelName,
    backend: backend(),
    artifact: slots.artifact?.digest ?? '',
  } as const;
  log.info(announcement, 'ready');
  return new Worker(announcement, { loop, native: engine, reconciler, grpc, watch, fleet, status, log });
}

function findModel(config: Config, log: Logger): Promise<ResolvedModel> {
  return resolveModel(config.model, {
    cache: config.cache ?? defaultCacheFolder(),
    hubUrl: config.hubUrl,
    hubToken: config.hubToken,
    say: (line) => {
      log.info(line);
    },
  });
}

async function findDevice(config: Config, native: NativeModule, log: Logger): Promise<'cpu' | 'cuda'> {
  // Asked only where it matters: drivers and their libraries are loaded for the answer.
  const gpus = (config.device === 'auto' ? await native.devices?.() : undefined) ?? NO_GPUS;
  const device = chooseDevice(config.device, gpus);
  if (device === 'cpu' && gpus.devices.length > 0)
    log.warn(gpus, 'this machine has a GPU and it cannot be used: serving on the CPU');
  return device;
}

function logEngine({ info }: Engine, model: ResolvedModel, log: Logger): void {
  const { model: shape, ...device } = info;
  log.info({ ...shape, ...device }, `loaded ${model.origin}`);
  if (info.blocks * BLOCK_SIZE >= shape.maxModelLen) return;
  log.warn(
    { tokens: info.blocks * BLOCK_SIZE, maxModelLen: shape.maxModelLen },
    'the cache holds less than one context of full length: give more by --kv-memory',
  );
}

async function loadArtifact(
  config: Config,
  native: NativeModule,
  engine: Engine,
  slots: SlotTable,
  log: Logger,
): Promise<{ digest: string; path: string } | undefined> {
  const choice = await findArtifact({
    setting: config.artifact,
    fingerprint: engine.info.fingerprint,
    inspect: (path) => native.inspectArtifact(path),
  });
  if (choice.path === undefined) {
    log.warn({ reason: choice.reason }, 'no artifact: this model is served dense');
    return undefined;
  }
  const { digest, encoder, bits, layers } = await slots.load(0, choice.path);
  log.info(
    { digest, encoder, bits, layers: layers.length, reason: choice.reason },
    `artifact ${choice.path}`,
  );
  return { digest, path: choice.path };
}

function stepLimits({
  stepTokens,
  mixedPromptTokens,
}: Config): Pick<EngineLoopOptions, 'stepTokens' | 'mixedPromptTokens'> {
  return {
    ...(stepTokens === undefined ? {} : { stepTokens }),
    ...(mixedPromptTokens === undefined ? {} : { mixedPromptTokens }),
  };
}

function startLoop(
  config: Config,
  deployment: Deployment,
  engine: Engine,
  tokenizer: Tokenizer,
  slots: SlotTable,
  stats: ArtifactStats,
  registry: Registry,
  log: Logger,
): EngineLoop {
  const { modelName, maxModelLen, attention, settingsDigest, maxWaiting, info } = deployment;
  const facts = { modelName, maxModelLen, blockSize: BLOCK_SIZE, blocks: info.blocks };
  stats.register(registry, modelName);
  const loop: EngineLoop = new EngineLoop({
    native: engine,
    texts: tokenizer,
    attention,
    settingsDigest,
    slots,
    maxModelLen,
    maxWaiting,
    ...stepLimits(config),
    rehashShare: config.rehashShare,
    qualityRate: config.qualityRate,
    observer: alsoTo(new EngineMetrics(registry, facts, () => loop.load()), stats),
    log,
  });
  return loop;
}

function openReconciler(
  config: Config,
  native: NativeModule,
  slots: SlotTable,
  came: { digest: string; path: string } | undefined,
  loop: EngineLoop,
  dial: Dial,
  log: Logger,
): Reconciler {
  const folder = config.artifactCache ?? join(config.cache ?? defaultCacheFolder(), 'artifacts');
  const source = artifactSource(config.join ?? [], config.joinToken ?? '', dial);
  const store = new ArtifactStore(folder, source, (line) => {
    log.info(line);
  });
  if (came !== undefined) store.know(came.digest, came.path);
  slots.onChange((slot, loaded) => {
    loop.rehasher.changed(slot, loaded);
  });
  return new Reconciler({
    slots,
    store,
    inspect: (path) => native.inspectArtifact(path),
    use: loop,
    log,
  });
}
