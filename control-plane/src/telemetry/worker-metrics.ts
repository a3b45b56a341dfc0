// What this replica sees of each worker, read from the fleet at scrape time: a worker that has gone leaves no series behind.
import { Inject, Injectable } from '@nestjs/common';
import { Gauge } from 'prom-client';
import type { WorkerFleet, WorkerSnapshot } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';
import { Metrics } from './metrics.js';

const STATES: readonly WorkerSnapshot['state'][] = ['starting', 'ready', 'degraded', 'draining', 'dead'];

@Injectable()
export class WorkerMetrics {
  constructor(
    @Inject(Metrics) metrics: Metrics,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'snapshots'>,
  ) {
    const registers = [metrics.registry];
    const read = (name: string, help: string, value: (worker: WorkerSnapshot) => number): void => {
      const { fleet } = this;
      new Gauge({
        name,
        help,
        labelNames: ['worker', 'model'],
        registers,
        collect() {
          this.reset();
          for (const worker of fleet.snapshots()) {
            this.set({ worker: worker.workerId, model: worker.model.id }, value(worker));
          }
        },
      });
    };
    read('spotlight:worker_requests_running', 'Requests the worker runs', ({ load }) => load.running);
    read('spotlight:worker_requests_waiting', 'Requests that wait on the worker', ({ load }) => load.waiting);
    read('spotlight:worker_free_blocks', 'Cache blocks free or reclaimable', ({ load }) => load.freeBlocks);
    read('spotlight:worker_total_blocks', 'Cache blocks in all', ({ load }) => load.totalBlocks);
    read('spotlight:worker_in_flight', 'Requests of this replica on the worker', ({ inFlight }) => inFlight);
    read(
      'spotlight:worker_last_step_age_seconds',
      'Age of the last step while work waits, 0 while idle',
      ({ lastStepAgeMs }) => lastStepAgeMs / 1000,
    );
    this.#states(registers);
    this.#artifacts(registers);
  }

  #states(registers: Metrics['registry'][]): void {
    const { fleet } = this;
    new Gauge({
      name: 'spotlight:worker_state',
      help: '1 for the state the worker is in, 0 for the others',
      labelNames: ['worker', 'state'],
      registers,
      collect() {
        this.reset();
        for (const { workerId, state: current } of fleet.snapshots()) {
          for (const state of STATES) this.set({ worker: workerId, state }, state === current ? 1 : 0);
        }
      },
    });
  }

  #artifacts(registers: Metrics['registry'][]): void {
    const { fleet } = this;
    new Gauge({
      name: 'spotlight:worker_model_info',
      help: 'What the worker serves; artifact is empty when it attends densely',
      labelNames: ['worker', 'model', 'backend', 'artifact', 'device', 'device_name'],
      registers,
      collect() {
        this.reset();
        for (const { workerId, model, slots, device, deviceName } of fleet.snapshots()) {
          const artifact = slots.find(({ active }) => active)?.artifactDigest ?? '';
          const { id, backend } = model;
          this.set({ worker: workerId, model: id, backend, artifact, device, device_name: deviceName }, 1);
        }
      },
    });
  }
}
