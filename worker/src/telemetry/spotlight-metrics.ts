// `spotlight:*`: what only this project has to tell: how sparse attention was, what serves it, the blocks and the age of the
// last step. Read when scraped, never pushed: a step pays nothing for them.
import type { EngineInfo, EngineStats } from '@spotlight/cuda';
import type { ArtifactSlot } from '@spotlight/proto';
import type { Registry } from 'prom-client';
import { Counter, Gauge } from 'prom-client';

export interface BlockCounts {
  readonly free: number;
  readonly cached: number;
  readonly held: number;
}

export interface SpotlightSources {
  readonly modelName: string;
  readonly info: Pick<EngineInfo, 'device' | 'deviceName' | 'isa' | 'threads'>;
  /** What a request gets without overrides. */
  readonly backend: () => string;
  readonly settingsDigest: string;
  readonly stats: () => EngineStats;
  readonly blocks: () => BlockCounts;
  readonly slots: () => readonly ArtifactSlot[];
  readonly rehashing: () => { readonly blocks: number; readonly seconds: number };
  /** 0 while idle. */
  readonly lastStepAgeSeconds: () => number;
}

export function registerSpotlightMetrics(registry: Registry, sources: SpotlightSources): void {
  const labels = { model_name: sources.modelName, engine: '0' };
  const names = ['model_name', 'engine'];
  const registers = [registry];

  const gauge = (name: string, help: string, read: () => number): void => {
    const metric: Gauge = new Gauge({
      name: `spotlight:${name}`,
      help,
      labelNames: names,
      registers,
      collect: () => {
        metric.set(labels, read());
      },
    });
  };
  const counter = (name: string, help: string, read: () => number): void => {
    let seen = 0;
    const metric: Counter = new Counter({
      name: `spotlight:${name}_total`,
      help,
      labelNames: names,
      registers,
      collect: () => {
        const now = read();
        metric.inc(labels, Math.max(0, now - seen));
        seen = now;
      },
    });
  };

  counter(
    'selected_tokens',
    'Tokens that sparse layers selected, over layers, heads and rows',
    () => sources.stats().selectedTokens,
  );
  counter(
    'context_tokens',
    'Tokens that sparse layers could have read, over layers, heads and rows',
    () => sources.stats().contextTokens,
  );
  gauge('selected_token_ratio', 'Selected tokens over context tokens since start', () => {
    const { selectedTokens, contextTokens } = sources.stats();
    return contextTokens === 0 ? 0 : selectedTokens / contextTokens;
  });
  counter('sparse_rows', 'Rows of generated tokens that attended sparsely', () => sources.stats().sparseRows);
  counter(
    'dense_fallback_rows',
    'Rows of generated tokens that attended densely',
    () => sources.stats().denseFallbackRows,
  );
  counter(
    'native_busy_seconds',
    'Seconds the compute thread spent in steps',
    () => sources.stats().busySeconds,
  );
  // Divided by spotlight:steps_total: host time a step, encoding and streaming counted.
  counter(
    'host_busy_seconds',
    'Seconds the JavaScript thread was busy',
    () => performance.eventLoopUtilization().active / 1000,
  );
  gauge(
    'last_step_age_seconds',
    'Age of the last step while work runs; 0 while idle',
    sources.lastStepAgeSeconds,
  );

  const blocks = new Gauge({
    name: 'spotlight:kv_blocks',
    help: 'Cache blocks by state',
    labelNames: [...names, 'state'],
    registers,
    collect: () => {
      for (const [state, count] of Object.entries(sources.blocks()))
        blocks.set({ ...labels, state }, count as number);
    },
  });
  const rehashed = new Gauge({
    name: 'spotlight:rehashed_ratio',
    help: "Share of cached blocks whose codes are of the slot's artifact",
    labelNames: [...names, 'slot'],
    registers,
    collect: () => {
      for (const { slot, rehashed: share } of sources.slots()) rehashed.set({ ...labels, slot }, share);
    },
  });
  counter('rehashed_blocks', 'Cached blocks whose codes were derived anew in the background', () => {
    return sources.rehashing().blocks;
  });
  counter('rehash_seconds', 'Seconds the native engine spent on that', () => sources.rehashing().seconds);
  const artifact = new Gauge({
    name: 'spotlight:artifact_info',
    help: '1 for each loaded artifact, with what it is as labels',
    labelNames: [...names, 'slot', 'digest', 'encoder', 'bits', 'active'],
    registers,
    collect: () => {
      artifact.reset();
      for (const { slot, artifactDigest: digest, encoder, bits, active } of sources.slots()) {
        if (digest !== '')
          artifact.set({ ...labels, slot, digest, encoder, bits, active: String(active) }, 1);
      }
    },
  });
  const { device, deviceName, isa, threads } = sources.info;
  const backend = new Gauge({
    name: 'spotlight:backend_info',
    help: '1, with the attention backend and the device as labels',
    labelNames: [...names, 'backend', 'settings_digest', 'device', 'device_name', 'isa', 'threads'],
    registers,
    collect: () => {
      backend.reset();
      const now = { backend: sources.backend(), settings_digest: sources.settingsDigest };
      backend.set({ ...labels, ...now, device, device_name: deviceName, isa, threads }, 1);
    },
  });
}
