// The operator's HTTP API under /api/v1, all of scope admin.
import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { ModelsModule } from '../models/models.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { KeysController } from './keys.controller.js';
import { ModelsController } from './models.controller.js';
import { WorkersController } from './workers.controller.js';

@Module({
  imports: [AuthModule, WorkersModule, ModelsModule],
  controllers: [KeysController, WorkersController, ModelsController],
})
export class AdminModule {}
