// R2. Both doors import this; it needs routing to choose a worker and the fleet to call it.
import { Module } from '@nestjs/common';
import { RolloutsModule } from '../rollouts/rollouts.module.js';
import { RoutingModule } from '../routing/routing.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { InferenceService } from './inference.service.js';

@Module({
  imports: [RoutingModule, RolloutsModule, WorkersModule],
  providers: [InferenceService],
  exports: [InferenceService],
})
export class InferenceModule {}
