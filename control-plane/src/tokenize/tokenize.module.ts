// Tokenising for both doors: POST /tokenize here, Generation.Tokenize through TokenizeService.
import { Module } from '@nestjs/common';
import { RoutingModule } from '../routing/routing.module.js';
import { WorkersModule } from '../workers/workers.module.js';
import { TokenizeController } from './tokenize.controller.js';
import { TokenizeService } from './tokenize.service.js';

@Module({
  imports: [RoutingModule, WorkersModule],
  controllers: [TokenizeController],
  providers: [TokenizeService],
  exports: [TokenizeService],
})
export class TokenizeModule {}
