// The probes and the scrape, apart from telemetry.module.ts: that one is global and depends on nobody.
import { Module } from '@nestjs/common';
import { WorkersModule } from '../workers/workers.module.js';
import { ProbesController } from './probes.controller.js';
import { Readiness } from './readiness.js';
import { WorkerMetrics } from './worker-metrics.js';

@Module({
  imports: [WorkersModule],
  controllers: [ProbesController],
  providers: [Readiness, WorkerMetrics],
  exports: [Readiness],
})
export class ProbesModule {}
