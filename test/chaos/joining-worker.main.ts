// A fake worker as a process of its own, bound to a control plane by the real worker's link, which rejoins for ever.
// Prints one line of JSON when it serves. argv: worker id, control plane's gRPC address, ms between steps.
import { createLog } from '@spotlight/control-plane/telemetry/log.js';
import { DescribeRequest, Report, WorkerClient, WorkerState } from '@spotlight/proto';
import type { DescribeResponse } from '@spotlight/proto';
import { Transport } from '@spotlight/proto/transport';
import { dialer } from '@spotlight/worker/fleet/dial.js';
import { ControlPlaneLink } from '@spotlight/worker/fleet/link.js';
import { credentials } from '@grpc/grpc-js';
import { FakeWorker } from '../fakes/worker.js';

const [workerId, controlPlane, stepMs] = process.argv.slice(2);
if (workerId === undefined || controlPlane === undefined) throw new Error('usage: ID ADDRESS [STEP_MS]');

const worker = await FakeWorker.start({ workerId, join: [], stepMs: Number(stepMs ?? 10) });
const client = new WorkerClient(worker.address, credentials.createInsecure());
const description = await new Promise<DescribeResponse>((resolve, reject) => {
  client.describe(DescribeRequest.fromPartial({}), (error, response) => {
    if (error) reject(error);
    else resolve(response);
  });
});
client.close();

const link = new ControlPlaneLink({
  address: controlPlane,
  dial: dialer(Transport.plain),
  hello: () => ({ serveAddress: worker.address, metricsAddress: '', description, joinToken: '' }),
  report: () => Report.fromPartial({ state: WorkerState.READY, slots: description.slots }),
  onDirective: () => undefined,
  log: createLog('silent'),
  backoff: { firstMs: 50, mostMs: 500 },
});
link.open();
setInterval(() => {
  link.report();
}, 200);
process.stdout.write(`${JSON.stringify({ workerId, address: worker.address })}\n`);
