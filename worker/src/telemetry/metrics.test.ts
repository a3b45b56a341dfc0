// What a board, an autoscaler or a router reads, over HTTP as they do: exact names, labels, buckets and values.
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import type { EngineStats } from '@spotlight/cuda';
import { ArtifactSlot, ErrorCode, FinishReason, Load } from '@spotlight/proto';
import { Registry } from 'prom-client';
import { tokenCounts } from './buckets.js';
import { EngineMetrics } from './engine-metrics.js';
import { WorkerStatus } from './health.js';
import { WatchServer } from './http-server.js';
import { registerSpotlightMetrics } from './spotlight-metrics.js';

describe('metrics and health over HTTP', () => {
  let registry: Registry;
  let metrics: EngineMetrics;
  let status: WorkerStatus;
  let server: WatchServer;
  let stats: EngineStats;
  beforeEach(async () => {
    registry = new Registry();
    status = new WorkerStatus(1000);
    stats = {
      steps: 1,
      tokens: 1,
      inFlight: 0,
      openSequences: 0,
      busySeconds: 2.5,
      selectedTokens: 20,
      contextTokens: 1000,
      denseFallbackRows: 3,
      sparseRows: 4,
    };
    const facts = { modelName: 'tiny', maxModelLen: 8192, blockSize: 64, blocks: 100 };
    metrics = new EngineMetrics(registry, facts, () =>
      Load.fromPartial({ running: 2, waiting: 5, freeBlocks: 75, totalBlocks: 100 }),
    );
    registerSpotlightMetrics(registry, {
      modelName: 'tiny',
      info: { device: 'cpu', deviceName: 'Some CPU', isa: 'avx2', threads: 2 },
      backend: () => 'spotlight',
      rehashing: () => ({ blocks: 12, seconds: 0.5 }),
      settingsDigest: 'dd',
      stats: () => stats,
      blocks: () => ({ free: 70, cached: 5, held: 25 }),
      slots: () => [
        ArtifactSlot.fromPartial({
          artifactDigest: 'aa',
          active: true,
          encoder: 'linear-asym',
          bits: 128,
          rehashed: 1,
        }),
        ArtifactSlot.fromPartial({ slot: 1 }),
      ],
      lastStepAgeSeconds: () => 0.5,
    });
    server = await WatchServer.listen('127.0.0.1', 0, registry, status);
  });
  afterEach(async () => {
    status.stop();
    await server.close();
  });

  async function get(path: string): Promise<{ readonly code: number; readonly body: string }> {
    const response = await fetch(`http://${server.address}${path}`);
    return { code: response.status, body: await response.text() };
  }

  /** Value of a sample; labels as they stand in the text, model_name and engine left out. */
  async function value(name: string, labels = ''): Promise<number | undefined> {
    const { body } = await get('/metrics');
    const all = `{model_name="tiny",engine="0"${labels === '' ? '' : `,${labels}`}}`;
    const line = body.split('\n').find((candidate) => candidate.startsWith(`${name}${all} `));
    return line === undefined ? undefined : Number(line.split(' ').at(-1));
  }

  it('gives the gauges that routers and autoscalers read', async () => {
    assert.equal(await value('vllm:num_requests_running'), 2);
    assert.equal(await value('vllm:num_requests_waiting'), 5);
    assert.equal(await value('vllm:kv_cache_usage_perc'), 0.25);
    assert.equal(await value('vllm:cache_config_info', 'block_size="64",num_gpu_blocks="100"'), 1);
    assert.equal(await value('vllm:num_requests_waiting_by_reason', 'reason="capacity"'), 5);
  });

  it('counts steps, tokens and requests', async () => {
    assert.equal(await value('vllm:generation_tokens_total'), 0, 'there before anything was counted');
    metrics.stepped({ rows: 3, promptTokens: 60, decodeTokens: 2, seconds: 0.02 });
    metrics.firstToken(0.3);
    metrics.tokens({ artifactDigest: 'aa', drawn: 4, gaps: Float64Array.of(0.02, 0.2, 99), gapCount: 2 });
    metrics.prefixLookup(100, 64);
    metrics.preempted();
    metrics.rejected(ErrorCode.PROMPT_TOO_LONG);
    metrics.corrupted();
    metrics.auditFailed();
    metrics.finished({
      artifactDigest: 'aa',
      finishReasons: [FinishReason.STOP, FinishReason.LENGTH],
      error: undefined,
      promptTokens: 100,
      cachedTokens: 64,
      completionTokens: 4,
      choices: 2,
      maxTokens: 16,
      preemptions: 1,
      endToEnd: 1,
      queued: 0.25,
      prefill: 0.05,
      decode: 0.7,
    });
    assert.equal(await value('vllm:generation_tokens_total'), 4);
    assert.equal(await value('vllm:prompt_tokens_total'), 100);
    assert.equal(await value('vllm:prompt_tokens_cached_total'), 64);
    assert.equal(await value('vllm:prompt_tokens_by_source_total', 'source="local_compute"'), 36);
    assert.equal(await value('vllm:prefix_cache_queries_total'), 100);
    assert.equal(await value('vllm:prefix_cache_hits_total'), 64);
    assert.equal(await value('vllm:num_preemptions_total'), 1);
    assert.equal(await value('vllm:request_success_total', 'finished_reason="stop"'), 1);
    assert.equal(await value('vllm:request_success_total', 'finished_reason="length"'), 1);
    assert.equal(await value('vllm:admission_rejections_total', 'reason="prompt_too_long"'), 1);
    assert.equal(await value('spotlight:audit_failures_total'), 1);
    assert.equal(await value('spotlight:corrupted_rows_total'), 1);
    assert.equal(await value('spotlight:steps_total'), 1);
    assert.equal(await value('vllm:iteration_tokens_total_sum'), 62);
    assert.equal(await value('vllm:request_inference_time_seconds_sum'), 0.75);
    assert.equal(await value('vllm:request_time_per_output_token_seconds_sum'), 0.7);
    assert.equal(await value('vllm:inter_token_latency_seconds_count'), 2);
    const { body } = await get('/metrics');
    assert.match(
      body,
      /vllm:inter_token_latency_seconds_bucket\{le="0\.025",model_name="tiny",engine="0"\} 1\n/,
    );
    assert.match(body, /vllm:time_to_first_token_seconds_bucket\{le="2560",/);
  });

  it('tells what only this project has', async () => {
    assert.equal(await value('spotlight:selected_token_ratio'), 0.02);
    assert.equal(await value('spotlight:context_tokens_total'), 1000);
    assert.equal(await value('spotlight:dense_fallback_rows_total'), 3);
    assert.equal(await value('spotlight:sparse_rows_total'), 4);
    assert.equal(await value('spotlight:native_busy_seconds_total'), 2.5);
    assert.equal(await value('spotlight:kv_blocks', 'state="cached"'), 5);
    assert.equal(await value('spotlight:last_step_age_seconds'), 0.5);
    assert.equal(
      await value(
        'spotlight:artifact_info',
        'slot="0",digest="aa",encoder="linear-asym",bits="128",active="true"',
      ),
      1,
    );
    const backend =
      'backend="spotlight",settings_digest="dd",device="cpu",device_name="Some CPU",isa="avx2",threads="2"';
    assert.equal(await value('spotlight:backend_info', backend), 1);
    assert.equal(await value('spotlight:rehashed_blocks_total'), 12);
    assert.equal(await value('spotlight:rehash_seconds_total'), 0.5);
    assert.ok((await value('spotlight:host_busy_seconds_total'))! > 0);
    stats = { ...stats, contextTokens: 1500 };
    assert.equal(await value('spotlight:context_tokens_total'), 1500);
  });

  it('answers probes by state, with the reason', async () => {
    assert.equal((await get('/healthz')).code, 503);
    assert.match((await get('/healthz')).body, /"state":"starting"/);
    assert.equal((await get('/livez')).code, 200);
    status.started();
    assert.deepEqual(JSON.parse((await get('/healthz')).body), {
      state: 'ready',
      reason: '',
      lastStepAgeMs: 0,
    });
    status.watch(() => ({ dead: undefined, busy: true, lastStepAgeMs: 5000 }));
    assert.equal((await get('/healthz')).code, 503);
    assert.match(
      (await get('/healthz')).body,
      /"state":"degraded","reason":"work waits and the last step ended 5\.0 s ago"/,
    );
    assert.equal((await get('/livez')).code, 200);
    status.watch(() => ({ dead: 'the device is lost', busy: false, lastStepAgeMs: 0 }));
    assert.equal((await get('/livez')).code, 503);
    assert.match((await get('/livez')).body, /"state":"dead","reason":"the device is lost"/);
    assert.equal((await get('/nowhere')).code, 404);
  });

  it('says that a port is in use, in one line', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const { port } = squatter.address() as AddressInfo;
    await assert.rejects(
      WatchServer.listen('127.0.0.1', port, registry, status),
      new RegExp(`^BindError: port ${port} on 127\\.0\\.0\\.1 is in use: .*--metrics-port`),
    );
    await new Promise((resolve) => squatter.close(resolve));
  });
});

describe('tokenCounts', () => {
  it('is a 1-2-5 series up to the context', () => {
    assert.deepEqual(tokenCounts(1000), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]);
    assert.deepEqual(tokenCounts(40), [1, 2, 5, 10, 20]);
  });
});
