// The worker as a process: what its start refuses and how it says so, how it ends, what it shows of itself, and a model that
// comes from the hub. The models are made here, so nothing is downloaded.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DescribeResponse } from '@spotlight/proto';
import { ErrorCode, FinishReason, SamplingParams } from '@spotlight/proto';
import type { Submit } from '@spotlight/proto';
import { FakeHub } from '../fakes/hub.js';
import { tinyModel } from '../fakes/tiny-model.js';
import { ENTRY, WorkerProcess } from './worker-process.js';

const text = (value: string): Submit['prompt'] => ({ $case: 'text', value });
const greedy = (maxTokens: number): SamplingParams =>
  SamplingParams.fromPartial({ temperature: 0, maxTokens, ignoreEos: true });

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the entry to its end, as a start that fails does. */
async function ends(flags: readonly string[], environment: Record<string, string> = {}): Promise<Ended> {
  const child = spawn(process.execPath, [ENTRY, '--grpc-port', '0', '--metrics-port', '0', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, SPOTLIGHT_LOG_LEVEL: 'warn', ...environment },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}

describe('worker process', () => {
  let folder: string;
  let model: string;
  let worker: WorkerProcess | undefined;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-worker-'));
    model = join(folder, 'tiny');
    await mkdir(model);
    for (const [name, content] of tinyModel()) await writeFile(join(model, name), content);
  });
  after(() => rm(folder, { recursive: true }));
  afterEach(async () => {
    await worker?.end('SIGKILL');
    worker = undefined;
  });
  const start = async (...flags: string[]): Promise<WorkerProcess> =>
    (worker = await WorkerProcess.start(['--model', model, '--kv-memory', '4MiB', ...flags]));

  it('serves a model folder: text, chat, metrics, health and what it is', async () => {
    const { announced } = await start('--served-model-name', 'tiny-chat');
    assert.equal(announced.model, 'tiny-chat');
    assert.equal(announced.backend, 'dense');
    const first = await worker!.run({ prompt: text('in the'), sampling: greedy(20) });
    assert.equal(first.tokenIds.length, 20);
    assert.equal(first.deltas.at(-1)?.finishReason, FinishReason.LENGTH);
    assert.deepEqual(first.updates.at(-1)?.usage, { promptTokens: 2, completionTokens: 20, cachedTokens: 0 });
    const again = await worker!.run({ prompt: text('in the'), sampling: greedy(20) });
    assert.deepEqual(again.tokenIds, first.tokenIds);
    const chat = {
      $case: 'chat' as const,
      value: { messages: [{ role: 'user', content: 'hi', name: '' }] },
    };
    assert.deepEqual(await worker!.encode(chat), await worker!.encode({ $case: 'text', value: 'user:hi\n' }));
    const described = await new Promise<DescribeResponse>((resolve, reject) => {
      worker!.client.describe({}, (error, reply) => {
        if (error) reject(error);
        else resolve(reply);
      });
    });
    assert.equal(described.model?.maxModelLen, 512);
    assert.equal(described.model.architecture, 'llama');
    assert.equal(described.blockSize, 64);
    assert.equal((await worker!.get('/healthz')).status, 200);
    const { body } = await worker!.get('/metrics');
    assert.match(body, /^vllm:generation_tokens_total\{model_name="tiny-chat",engine="0"\} 40$/m);
    assert.match(body, /^vllm:request_success_total\{.*finished_reason="length"\} 2$/m);
    assert.match(body, /^spotlight:kv_blocks\{.*state="held"\} 0$/m);
  }).timeout(30_000);

  it('refuses a prompt beyond the context, and names the limit', async () => {
    await start('--max-model-len', '100');
    const outcome = await worker!.run({ prompt: text('a'.repeat(150)), sampling: greedy(1) });
    const { error } = outcome.updates.at(-1)!;
    assert.equal(error?.code, ErrorCode.PROMPT_TOO_LONG);
    assert.match(error.message, /150 tokens.*99/);
  }).timeout(30_000);

  it('finishes what runs after SIGTERM, takes nothing new, and ends with 0', async () => {
    await start();
    const { begun, ended: running } = worker!.begin({ prompt: text('in'), sampling: greedy(500) });
    await begun;
    const ended = worker!.end('SIGTERM');
    await sleep(20);
    const late = await worker!.run({ prompt: text('in'), sampling: greedy(1) });
    assert.equal(late.updates.at(-1)?.error?.code, ErrorCode.UNAVAILABLE);
    assert.equal((await worker!.get('/healthz')).status, 503);
    assert.equal((await running).tokenIds.length, 500);
    assert.equal(await ended, 0);
  }).timeout(30_000);

  it('ends requests that outlast the shutdown timeout, and ends at once by a second signal', async () => {
    await start('--shutdown-timeout', '50ms');
    const { begun, ended: running } = worker!.begin({ prompt: text('in'), sampling: greedy(500) });
    await begun;
    const ended = worker!.end('SIGTERM');
    assert.equal((await running).updates.at(-1)?.error?.code, ErrorCode.UNAVAILABLE);
    assert.equal(await ended, 0);

    await start();
    await worker!.begin({ prompt: text('in'), sampling: greedy(500) }).begun;
    worker!.child.kill('SIGTERM');
    await sleep(30);
    assert.equal(await worker!.end('SIGTERM'), 'SIGKILL');
  }).timeout(30_000);

  it('ends when its parent is gone', async () => {
    await start();
    const ended = new Promise((resolve) => worker!.child.once('exit', resolve));
    worker!.child.stdin?.destroy();
    assert.equal(await ended, 0);
  }).timeout(30_000);

  it('serves a model of the hub', async () => {
    const hub = await FakeHub.start('org/tiny');
    try {
      for (const [name, content] of tinyModel()) hub.put(name, content, name.endsWith('.safetensors'));
      await start();
      const expected = (await worker!.run({ prompt: text('in the'), sampling: greedy(8) })).tokenIds;
      await worker!.end();
      const cache = join(folder, 'cache');
      await start('--model', 'org/tiny', '--hub-url', hub.url, '--cache', cache);
      assert.equal(worker!.announced.model, 'org/tiny');
      assert.deepEqual(
        (await worker!.run({ prompt: text('in the'), sampling: greedy(8) })).tokenIds,
        expected,
      );
      const absent = await ends(['--model', 'org/absent', '--hub-url', hub.url, '--cache', cache]);
      assert.equal(absent.code, 1);
      assert.match(absent.stderr, /org\/absent has no model/);
    } finally {
      await hub.close();
    }
  }).timeout(40_000);

  it('says in one line why it cannot start', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const port = String((squatter.address() as AddressInfo).port);
    const truncated = join(folder, 'truncated.gguf');
    await writeFile(truncated, 'GGUF\u0003\u0000');
    const other = join(folder, 'other.safetensors');
    await writeFile(other, 'not an artifact');
    const cases: readonly (readonly [string[], number, RegExp])[] = [
      [
        ['--grpc-port', '70000', '--device', 'tpu'],
        2,
        /^--grpc-port "70000": .*\n--device "tpu": must be one of auto, cpu, cuda/,
      ],
      [['--modle', 'x'], 2, /^Unknown option '--modle'/],
      [['--model', './absent.gguf'], 1, /^there is no model at .*absent\.gguf\n$/],
      [['--model', truncated], 1, /^[^\n]*truncated\.gguf[^\n]*\n$/],
      [['--model', 'dummy:nothing'], 1, /^[^\n]*nothing[^\n]*\n$/],
      [['--model', model, '--artifact', other], 1, /^[^\n]*other\.safetensors[^\n]*\n$/],
      [['--model', model, '--artifact', join(folder, 'absent')], 1, /^[^\n]*absent[^\n]*\n$/],
      [
        ['--model', model, '--grpc-port', port],
        1,
        new RegExp(`^port ${port} on 127\\.0\\.0\\.1 is in use: [^\\n]*\\n$`),
      ],
      [
        ['--model', model, '--metrics-port', port],
        1,
        new RegExp(`^port ${port} on 127\\.0\\.0\\.1 is in use: [^\\n]*\\n$`),
      ],
    ];
    for (const [flags, code, message] of cases) {
      // Warnings are log lines (JSON); what is left is what the operator is told.
      const { stderr, ...ended } = await ends(flags, { SPOTLIGHT_LOG_LEVEL: 'fatal' });
      assert.match(stderr, message, flags.join(' '));
      assert.equal(ended.code, code, stderr);
      assert.equal(ended.stdout, '');
    }
    await new Promise((resolve) => squatter.close(resolve));
  }).timeout(60_000);

  it('prints its help', async () => {
    const { code, stdout } = await ends(['--help']);
    assert.equal(code, 0);
    assert.match(stdout, /--attention-crossover .*\n.*SPOTLIGHT_ATTENTION_CROSSOVER/);
  });
});
