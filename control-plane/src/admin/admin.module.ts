// The operator's HTTP API under /api/v1, all of scope admin.
import { Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { ArtifactsModule } from '../artifacts/artifacts.module.js';
import { AuditModule } from '../audit/audit.module.js';
import { AuthModule } from '../auth/auth.module.js';
import { DeploymentsModule } from '../deployments/deployments.module.js';
import { ModelsModule } from '../models/models.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { ArtifactsController } from './artifacts.controller.js';
import { AuditController } from './audit.controller.js';
import { DeploymentsController } from './deployments.controller.js';
import { KeysController } from './keys.controller.js';
import { ModelsController } from './models.controller.js';
import { OpenApiController } from './openapi.controller.js';
import { UploadsController } from './uploads.controller.js';
import { WorkersController } from './workers.controller.js';

@Module({
  imports: [
    ...[AuthModule, WorkersModule, ModelsModule, DeploymentsModule, ArtifactsModule, AuditModule],
    DiscoveryModule,
  ],
  controllers: [
    ...[KeysController, WorkersController, ModelsController],
    ...[DeploymentsController, UploadsController, ArtifactsController, AuditController, OpenApiController],
  ],
})
export class AdminModule {}
