// R1, the door for gRPC clients, and the server it stands in.
import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { InferenceModule } from '../inference/inference.module.js';
import { ModelsModule } from '../models/models.module.js';
import { TokenizeModule } from '../tokenize/tokenize.module.js';
import { GenerationHandlers } from './generation.handlers.js';
import { GrpcHost } from './grpc-host.js';

@Module({
  imports: [AuthModule, InferenceModule, ModelsModule, TokenizeModule],
  providers: [GenerationHandlers, GrpcHost],
  exports: [GenerationHandlers, GrpcHost],
})
export class GenerationModule {}
