// The peer of cpu-decode: llama.cpp by node-llama-cpp's prebuilt CPU binary, in a process of its own and fetched only here.
// It is installed beside the model cache, never into the project: the product does not depend on it.
import { execFileSync, fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const VERSION = '3.22.1';
const BINARY = `@node-llama-cpp/${process.platform === 'darwin' ? 'mac' : process.platform}-${process.arch}`;

export interface PeerTiming {
  /** Seconds for all prompt tokens but the last. */
  readonly prefillSeconds: number;
  /** Seconds for `decoded` tokens after the first. */
  readonly decodeSeconds: number;
  readonly decoded: number;
}

/** The peer's own program: plain JavaScript, since it runs in the folder where the peer is installed. */
const PROGRAM = `
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
const [modelPath, threadsText] = process.argv.slice(2);
const threads = Number(threadsText);
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error, progressLogs: false });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
process.on('message', async ({ tokens, decode, contextSize }) => {
  const context = await model.createContext({ contextSize, batchSize: 512, threads: { ideal: threads, min: threads }, sequences: 1 });
  const sequence = context.getSequence();
  const begin = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1));
  const prefilled = performance.now();
  let first = 0;
  let count = 0;
  for await (const token of sequence.evaluate([tokens.at(-1)], { temperature: 0, yieldEogToken: true })) {
    if (token === undefined) continue;
    if (count === 0) first = performance.now();
    if (++count > decode) break;
  }
  const end = performance.now();
  await context.dispose();
  process.send({ prefillSeconds: (prefilled - begin) / 1e3, decodeSeconds: (end - first) / 1e3, decoded: count - 1 });
});
process.on('disconnect', () => process.exit(0));
process.send({ ready: true });
`;

function install(log: (message: string) => void): string {
  const cache = process.env['SPOTLIGHT_CACHE'] ?? join(homedir(), '.cache', 'spotlight');
  const folder = join(cache, 'peers', `node-llama-cpp-${VERSION}`);
  const program = join(folder, 'peer.mjs');
  if (!existsSync(join(folder, 'node_modules', 'node-llama-cpp', 'package.json'))) {
    log(`fetching the peer node-llama-cpp ${VERSION} (CPU binary only) …`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}\n');
    const flags = ['--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    const packages = [`${BINARY}@${VERSION}`, `node-llama-cpp@${VERSION}`];
    execFileSync('npm', ['install', ...flags, ...packages], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  writeFileSync(program, PROGRAM);
  return program;
}

export class LlamaPeer {
  private constructor(private readonly child: ChildProcess) {}

  static async start(modelPath: string, threads: number, log: (message: string) => void): Promise<LlamaPeer> {
    const child = fork(install(log), [modelPath, String(threads)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const peer = new LlamaPeer(child);
    await peer.next();
    return peer;
  }

  time(tokens: readonly number[], decode: number, contextSize: number): Promise<PeerTiming> {
    this.child.send({ tokens, decode, contextSize });
    return this.next() as Promise<PeerTiming>;
  }

  stop(): void {
    this.child.kill();
  }

  private next(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null): void => {
        reject(new Error(`the llama.cpp peer ended with status ${String(code)}`));
      };
      this.child.once('exit', ended);
      this.child.once('message', (message) => {
        this.child.off('exit', ended);
        resolve(message);
      });
    });
  }
}
