// R3. Needs the fleet's snapshots and what is served; gives `RoutingService.route`.
import { Module } from '@nestjs/common';
import { ModelsModule } from '../models/models.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { RoutingService } from './routing.service.js';

@Module({ imports: [WorkersModule, ModelsModule], providers: [RoutingService], exports: [RoutingService] })
export class RoutingModule {}
