// A3. What is served: a model under its attention settings, with its active artifact. Rows are made as workers join.
import { Module } from '@nestjs/common';
import { WorkersModule } from '../workers/workers.module.js';
import { DeploymentsService } from './deployments.service.js';
import { DeploymentJoin } from './join.js';

@Module({
  imports: [WorkersModule],
  providers: [DeploymentsService, DeploymentJoin],
  exports: [DeploymentsService, DeploymentJoin],
})
export class DeploymentsModule {}
