// R1, the door for OpenAI clients.
import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { InferenceModule } from '../inference/inference.module.js';
import { ModelsModule } from '../models/models.module.js';
import { ChatController } from './chat.controller.js';
import { CompletionsController } from './completions.controller.js';
import { ModelsController } from './models.controller.js';
import { Responder } from './responder.js';

@Module({
  imports: [AuthModule, InferenceModule, ModelsModule],
  controllers: [ChatController, CompletionsController, ModelsController],
  providers: [Responder],
})
export class OpenAiModule {}
