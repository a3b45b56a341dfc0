// /api/v1/models: every model ever served here, with how many workers serve it now.
import { Controller, Get, Inject } from '@nestjs/common';
import { z } from 'zod';
import { Requires } from '../auth/auth.guard.js';
import type { ModelHistory } from '../models/models.service.js';
import { ModelsService } from '../models/models.service.js';
import { Describe } from '../openapi/operation.js';
import { MODEL } from './shapes.js';

@Controller('api/v1/models')
@Requires('admin')
export class ModelsController {
  constructor(@Inject(ModelsService) private readonly models: ModelsService) {}

  @Get()
  @Describe({ summary: 'Lists every model ever served', answer: z.object({ models: z.array(MODEL) }) })
  async list(): Promise<{ models: ModelHistory[] }> {
    return { models: await this.models.history() };
  }
}
