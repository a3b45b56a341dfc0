// /livez: the event loop turns. /readyz: send traffic here. /healthz: the same as /livez under the older name, with what an
// operator asks first. All are open, since probes carry no key, and none names a prompt, a key or an address.
import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Public } from '../auth/auth.guard.js';
import type { WorkerFleet } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import { Metrics } from './metrics.js';
import { Readiness } from './readiness.js';

@Controller()
@Public()
export class ProbesController {
  constructor(
    @Inject(Readiness) private readonly readiness: Readiness,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots'>,
    @Inject(Metrics) private readonly metrics: Metrics,
  ) {}

  @Get('livez')
  livez(): { status: 'ok' } {
    return { status: 'ok' };
  }

  @Get('healthz')
  healthz(): { status: 'ok'; workers: Record<string, number> } {
    const workers: Record<string, number> = {};
    for (const { state } of this.fleet.snapshots()) workers[state] = (workers[state] ?? 0) + 1;
    return { status: 'ok', workers };
  }

  @Get('readyz')
  readyz(@Res() response: ServerResponse): void {
    const { obstacle } = this.readiness;
    response
      .writeHead(obstacle === undefined ? 200 : 503, { 'content-type': 'application/json; charset=utf-8' })
      .end(
        JSON.stringify(
          obstacle === undefined ? { status: 'ok' } : { status: 'unavailable', reason: obstacle },
        ),
      );
  }

  @Get('metrics')
  async prometheus(@Res() response: ServerResponse): Promise<void> {
    const text = await this.metrics.registry.metrics();
    response.writeHead(200, { 'content-type': this.metrics.registry.contentType }).end(text);
  }
}
