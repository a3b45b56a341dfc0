// The two child processes of the gateway benchmark, by argument: the control plane under test, and the fake worker behind it,
// which also answers HTTP itself (gateway-bare.ts) as the baseline. A process each: the CPU measured is the gateway's alone.
import { startControlPlane } from '@spotlight/control-plane/start.js';
import { loadConfig } from '@spotlight/control-plane/config/config.js';
import { FinishReason } from '@spotlight/proto';
import type { FakeToken, Scripted } from '../fakes/script.js';
import { FakeWorker } from '../fakes/worker.js';
import { serveBare } from './gateway-bare.js';
import { clock } from './clock.js';

/** Parent to child. */
export type Command = { readonly ask: 'cpu' } | { readonly ask: 'close' };
/** Child to parent. */
export type Report =
  | { readonly told: 'listening'; readonly http: string; readonly grpc: string }
  | { readonly told: 'joined' }
  | { readonly told: 'bare'; readonly http: string }
  | { readonly told: 'cpu'; readonly microseconds: number };

/** Token texts are times: of the submit's arrival (first token only) and of the token's own writing. */
const stamped: Scripted = (submit) => {
  const arrived = clock();
  const tokens = Array.from({ length: submit.sampling?.maxTokens ?? 16 }, (_, id): FakeToken => ({
    id,
    text: () => `${id === 0 ? arrived : ''},${clock()};`,
  }));
  return { promptTokens: 1, choices: [tokens], finish: FinishReason.LENGTH };
};

function tell(report: Report): void {
  process.send?.(report);
}

function onCommand(handle: (command: Command) => void): void {
  process.on('message', handle);
  process.once('disconnect', () => {
    process.exit(1); // The benchmark is gone, however it went.
  });
}

async function gateway(dataDir: string): Promise<void> {
  const config = loadConfig({ httpPort: '0', grpcPort: '0', data: dataDir, logLevel: 'info' }, {});
  const controlPlane = await startControlPlane(config);
  onCommand(({ ask }) => {
    if (ask === 'close') {
      void controlPlane.close().then(() => {
        process.disconnect();
        process.exit(0);
      });
      return;
    }
    const { user, system } = process.cpuUsage();
    tell({ told: 'cpu', microseconds: user + system });
  });
  tell({ told: 'listening', http: controlPlane.httpUrl, grpc: controlPlane.grpcAddress });
  await controlPlane.ready;
  tell({ told: 'joined' });
}

async function worker(join: string, stepMs: string): Promise<void> {
  const fake = await FakeWorker.start({
    workerId: 'bench',
    join: [join],
    stepMs: Number(stepMs),
    maxRequests: 4096,
    maxWaiting: 4096,
    script: stamped,
  });
  onCommand(() => {
    void fake.close().then(() => process.exit(0));
  });
  tell({ told: 'bare', http: await serveBare(Number(stepMs)) });
}

const [, , role, ...args] = process.argv;
if (role === 'gateway') await gateway(args[0] ?? '');
if (role === 'worker') await worker(args[0] ?? '', args[1] ?? '10');
