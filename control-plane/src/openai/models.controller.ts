// GET /v1/models and /v1/models/:id. `id` may hold slashes, as hub names do. Beyond OpenAI's fields: max_model_len as vLLM has
// it, and how the model is served (`spotlight`), so that a model without an artifact is seen to be dense.
import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { Model } from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import { Requires } from '../auth/auth.guard.js';
import { ServiceError } from '../errors/service-error.js';
import { ModelsService } from '../models/models.service.js';

interface OpenAiModel {
  readonly id: string;
  readonly object: 'model';
  readonly created: number;
  readonly owned_by: string;
  readonly max_model_len: number;
  readonly spotlight: {
    readonly backend: string;
    /** SHA-256, null when served dense. */
    readonly artifact_digest: string | null;
    readonly fingerprint: string;
    readonly workers: number;
    /** Of the hardware it runs on, each once. */
    readonly devices: readonly string[];
  };
}

@Controller('v1/models')
@Requires('generate')
export class ModelsController {
  constructor(@Inject(ModelsService) private readonly models: Pick<ModelsService, 'served'>) {}

  @Get()
  list(): { object: 'list'; data: OpenAiModel[] } {
    return { object: 'list', data: this.models.served().map(openAiModel) };
  }

  @Get('*id')
  one(@Param('id') segments: string[] | string): OpenAiModel {
    const id = typeof segments === 'string' ? segments : segments.join('/');
    const model = this.models.served().find((served) => served.id === id);
    if (model !== undefined) return openAiModel(model);
    throw new ServiceError(
      ErrorCode.NOT_FOUND,
      `The model "${id}" is not served here; GET /v1/models lists those that are.`,
      {
        field: 'model',
        openaiCode: 'model_not_found',
      },
    );
  }
}

function openAiModel(model: Model): OpenAiModel {
  const { id, createdUnix, maxModelLen, backend, artifactDigest, fingerprint, workers, deviceNames } = model;
  return {
    id,
    object: 'model',
    created: Number(createdUnix),
    owned_by: 'spotlight-serve',
    max_model_len: maxModelLen,
    spotlight: {
      backend,
      artifact_digest: artifactDigest === '' ? null : artifactDigest,
      fingerprint,
      workers,
      devices: deviceNames,
    },
  };
}
