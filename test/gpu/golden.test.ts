// The default model on a GPU passes the CPU's golden cases by the same margins.
import { goldenCases } from '../e2e/golden.js';
import { WorkerProcess } from '../e2e/worker-process.js';
import { DEVICE, needGpu } from './gpu.js';

describe('the default model on a GPU', () => {
  let worker: WorkerProcess | undefined;
  before(async function () {
    this.timeout(180_000);
    await needGpu(this);
    worker = await WorkerProcess.start(['--artifact', 'none', '--device', DEVICE]);
  });
  after(() => worker?.end());

  goldenCases(() => {
    if (worker === undefined) throw new Error('no worker was started');
    return worker;
  });
});
