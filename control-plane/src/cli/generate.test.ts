// `spotlight generate --url` as a process against a gRPC server that answers by script: what goes to stdout, to stderr and
// into the exit status. The private worker's way is tested end to end, on the real model.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { GenerateRequest } from '@spotlight/proto';
import { FinishReason, GenerateResponse, GenerationService } from '@spotlight/proto';
import { parseTarget } from './remote-server.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));

type Call = ServerWritableStream<GenerateRequest, GenerateResponse>;

const CHUNKS = [
  { deltas: [{ choice: 0, tokenIds: [1, 2], text: 'Hello' }] },
  { deltas: [{ choice: 0, tokenIds: [3], text: ', w\u00f6rld' }] },
  {
    deltas: [{ choice: 0, tokenIds: [4], text: '', finishReason: FinishReason.LENGTH }],
    usage: { promptTokens: 11, completionTokens: 4 },
  },
].map((chunk) =>
  GenerateResponse.fromPartial({ model: 'm', seed: 2n ** 63n, artifactDigest: 'ab'.repeat(32), ...chunk }),
);

describe('spotlight generate --url', () => {
  const server = new Server();
  let answer: (call: Call) => void;
  let url: string;

  before(async () => {
    server.addService(GenerationService, {
      generate: (call: Call) => {
        answer(call);
      },
    });
    url = await new Promise((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(error);
        else resolve(`127.0.0.1:${port}`);
      });
    });
  });

  after(() => {
    server.forceShutdown();
  });

  async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [MAIN, 'generate', '--url', url, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { code: await code, stdout, stderr };
  }

  it('streams the text and tells rates, seed and artifact on stderr', async () => {
    let asked: Call | undefined;
    answer = (call) => {
      asked = call;
      for (const chunk of CHUNKS) call.write(chunk);
      call.end();
    };
    const { code, stdout, stderr } = await run(
      'Say hello',
      '--api-key',
      'sk-test',
      '--model',
      'm',
      '--seed',
      '7',
    );
    assert.equal(code, 0);
    assert.equal(stdout, 'Hello, w\u00f6rld\n');
    assert.match(
      stderr,
      /11 prompt tokens, first token after [\d.]+ s, 4 tokens.*, length limit, artifact abababababab, seed 9223372036854775808/,
    );
    assert.deepEqual(asked?.metadata.get('authorization'), ['Bearer sk-test']);
    assert.equal(asked.request.model, 'm');
    assert.equal(asked.request.sampling?.seed, 7n);
  });

  it('writes one JSON object a chunk with --json', async () => {
    answer = (call) => {
      for (const chunk of CHUNKS) call.write(chunk);
      call.end();
    };
    const { code, stdout, stderr } = await run('x', '--json', '--quiet');
    assert.equal(code, 0);
    assert.equal(stderr, '');
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => GenerateResponse.fromJSON(JSON.parse(line)));
    assert.deepEqual(lines, CHUNKS);
  });

  it('keeps the text so far and says what the server said when it fails midway', async () => {
    answer = (call) => {
      call.write(CHUNKS[0]!);
      setTimeout(
        () => call.emit('error', { code: status.UNAUTHENTICATED, details: 'The key has expired' }),
        50,
      );
    };
    const { code, stdout, stderr } = await run('x');
    assert.equal(code, 1);
    assert.equal(stdout, 'Hello\n');
    assert.equal(stderr, 'spotlight: The key has expired. Give a key with --api-key or SPOTLIGHT_API_KEY.\n');
  });

  it('cancels the request on Ctrl-C and ends with 130', async () => {
    const cancelled = new Promise<void>((resolve) => {
      answer = (call) => {
        call.write(CHUNKS[0]!);
        call.once('cancelled', resolve);
      };
    });
    const child = spawn(process.execPath, [MAIN, 'generate', '--url', url, 'x'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.stdout.once('data', () => child.kill('SIGINT'));
    await cancelled;
    assert.equal(await code, 130);
  });

  it('cancels the request when nobody reads any more', async () => {
    const cancelled = new Promise<void>((resolve) => {
      answer = (call) => {
        const timer = setInterval(() => call.write(CHUNKS[0]!), 5);
        call.once('cancelled', () => {
          clearInterval(timer);
          resolve();
        });
      };
    });
    const child = spawn(process.execPath, [MAIN, 'generate', '--url', url, 'x'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
    child.stdout.once('data', () => child.stdout.destroy());
    await cancelled;
    assert.equal(await code, 0);
  });
}).timeout(30_000);

describe('parseTarget', () => {
  it('reads host:port with or without a scheme', () => {
    assert.deepEqual(parseTarget('127.0.0.1:8001'), { target: '127.0.0.1:8001', tls: false });
    assert.deepEqual(parseTarget('grpc://[::1]:8001/'), { target: '[::1]:8001', tls: false });
    assert.deepEqual(parseTarget('https://api.example.com:443'), {
      target: 'api.example.com:443',
      tls: true,
    });
    assert.throws(() => parseTarget('api.example.com'), /--url/);
    assert.throws(() => parseTarget('http://x:1/v1'), /--url/);
  });
});
