// What is served now, for both doors' model lists and for routing's errors.
import { Module } from '@nestjs/common';
import { WorkersModule } from '../workers/workers.module.js';
import { ModelsService } from './models.service.js';

@Module({ imports: [WorkersModule], providers: [ModelsService], exports: [ModelsService] })
export class ModelsModule {}
