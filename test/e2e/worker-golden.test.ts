// The default model on the CPU: a worker started as an operator starts it.
import { goldenCases } from './golden.js';
import { WorkerProcess } from './worker-process.js';

describe('the default model, served by a worker', () => {
  let worker: WorkerProcess;
  before(async function () {
    this.timeout(120_000);
    worker = await WorkerProcess.start(['--artifact', 'none', '--device', 'cpu']);
  });
  after(() => worker.end());

  goldenCases(() => worker);
});
