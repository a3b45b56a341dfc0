// One model, three ways in: HTTP by the official openai client, gRPC, and the CLI (both against the server and with its private
// worker) must give the same tokens for the golden prompts. A server and a worker run as processes, started by `spotlight serve`.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { credentials } from '@grpc/grpc-js';
import { GenerateRequest, GenerateResponse, GenerationClient, SamplingParams } from '@spotlight/proto';
import OpenAI from 'openai';

const MAIN = fileURLToPath(import.meta.resolve('@spotlight/control-plane/cli/main.js'));
const root = fileURLToPath(new URL('../../../', import.meta.url));
const golden = JSON.parse(readFileSync(join(root, 'test/golden/smollm2-135m.json'), 'utf8')) as {
  readonly prompts: readonly { readonly text: string }[];
};
const MAX_TOKENS = 48;

interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
}

function joined(chunks: readonly GenerateResponse[]): Answer {
  const deltas = chunks.flatMap((chunk) => chunk.deltas);
  return {
    text: deltas.map((delta) => delta.text).join(''),
    tokenIds: deltas.flatMap((delta) => delta.tokenIds),
  };
}

describe('HTTP, gRPC and CLI', () => {
  let folder: string;
  let server: ChildProcess;
  let http: string;
  let grpc: string;

  before(async function () {
    this.timeout(180_000);
    folder = await mkdtemp(join(tmpdir(), 'spotlight-doors-'));
    const flags = ['--http-port', '0', '--grpc-port', '0', '--metrics-port', '0', '--log-level', 'error'];
    server = spawn(process.execPath, [MAIN, 'serve', '--json', ...flags, '--data', join(folder, 'data')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(server.stdout);
    for await (const line of createInterface({ input: server.stdout })) {
      const event = JSON.parse(line) as { event: string; http?: string; grpc?: string };
      if (event.event === 'listening') [http, grpc] = [event.http ?? '', event.grpc ?? ''];
      if (event.event === 'ready') return;
    }
    assert.fail('the server ended before it was ready');
  });

  after(async () => {
    if (server.exitCode === null) {
      const exited = new Promise((resolve) => server.once('exit', resolve));
      server.kill('SIGTERM');
      await exited;
    }
    await rm(folder, { recursive: true, force: true });
  });

  async function overHttp(prompt: string): Promise<string> {
    const client = new OpenAI({ baseURL: `${http}/v1`, apiKey: 'none' });
    const stream = await client.completions.create({
      model: 'smollm2-135m-instruct',
      prompt,
      max_tokens: MAX_TOKENS,
      temperature: 0,
      stream: true,
    });
    let answer = '';
    for await (const chunk of stream) answer += chunk.choices[0]?.text ?? '';
    return answer;
  }

  async function overGrpc(prompt: string): Promise<Answer> {
    const client = new GenerationClient(grpc, credentials.createInsecure());
    const chunks: GenerateResponse[] = [];
    const call = client.generate(
      GenerateRequest.fromPartial({
        prompt: { $case: 'text', value: prompt },
        sampling: SamplingParams.fromPartial({ temperature: 0, maxTokens: MAX_TOKENS }),
      }),
    );
    for await (const chunk of call) chunks.push(chunk as GenerateResponse);
    client.close();
    return joined(chunks);
  }

  async function overCli(prompt: string, ...flags: string[]): Promise<Answer> {
    const child = spawn(
      process.execPath,
      [
        MAIN,
        'generate',
        '--raw',
        '--json',
        '--quiet',
        '--temperature',
        '0',
        '-n',
        String(MAX_TOKENS),
        ...flags,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.stdin.end(prompt);
    const out = await text(child.stdout);
    assert.equal(await exited, 0);
    return joined(
      out
        .trimEnd()
        .split('\n')
        .map((line) => GenerateResponse.fromJSON(JSON.parse(line))),
    );
  }

  for (const { text: prompt } of golden.prompts) {
    it(`agree on ${JSON.stringify(prompt.slice(0, 40))}`, async () => {
      const expected = await overGrpc(prompt);
      assert.ok(expected.tokenIds.length > 0);
      assert.deepEqual(await overCli(prompt, '--url', grpc), expected);
      assert.equal(await overHttp(prompt), expected.text);
    }).timeout(60_000);
  }

  it('agree with a private worker of the CLI', async () => {
    const prompt = golden.prompts[0]?.text ?? '';
    assert.deepEqual(await overCli(prompt), await overGrpc(prompt));
  }).timeout(120_000);
});
