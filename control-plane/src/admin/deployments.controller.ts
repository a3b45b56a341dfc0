// /api/v1/deployments: what is served. They come by themselves as workers join; their artifact changes by a rollout, here only what
// people say of them and the bar that validation holds artifacts to.
import { Body, Controller, Get, Inject, Param, Patch } from '@nestjs/common';
import { z } from 'zod';
import { Actor } from '../auth/actor.js';
import { Requires } from '../auth/auth.guard.js';
import type { DeploymentRow } from '../deployments/deployment-rows.js';
import { DeploymentsService } from '../deployments/deployments.service.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { DEPLOYMENT } from './shapes.js';

const CHANGE = z.strictObject({
  description: z.string().max(1000).optional(),
  leastQuality: z.number().gt(0).max(1).optional(),
});

type DeploymentView = Omit<DeploymentRow, 'modelId' | 'modelFingerprint' | 'generation'> & {
  readonly model: string;
  readonly fingerprint: string;
  readonly generation: number;
  /** That this replica sees. */
  readonly workers: number;
};

@Controller('api/v1/deployments')
@Requires('admin')
export class DeploymentsController {
  constructor(@Inject(DeploymentsService) private readonly deployments: DeploymentsService) {}

  @Get()
  @Describe({ summary: 'Lists deployments', answer: z.object({ deployments: z.array(DEPLOYMENT) }) })
  async list(): Promise<{ deployments: DeploymentView[] }> {
    return { deployments: (await this.deployments.list()).map((row) => this.#view(row)) };
  }

  @Get(':id')
  @Describe({ summary: 'Shows one deployment', answer: DEPLOYMENT, errors: ['deployment_not_found'] })
  async show(@Param('id') id: string): Promise<DeploymentView> {
    return this.#view(await this.deployments.get(id));
  }

  @Patch(':id')
  @Describe({
    summary:
      'Changes the description, or the share of the active artifact’s quality that validation asks of another',
    body: CHANGE,
    answer: DEPLOYMENT,
    errors: ['deployment_not_found'],
  })
  async change(
    @Param('id') id: string,
    @Body() body: unknown,
    @Actor() actor: string,
  ): Promise<DeploymentView> {
    const { description, leastQuality } = parseBody(CHANGE, body);
    const change = {
      ...(description === undefined ? {} : { description }),
      ...(leastQuality === undefined ? {} : { leastQuality }),
    };
    return this.#view(await this.deployments.change(id, change, actor));
  }

  #view(row: DeploymentRow): DeploymentView {
    const { modelId: model, modelFingerprint: fingerprint, generation, ...rest } = row;
    return {
      ...rest,
      model,
      fingerprint,
      generation: Number(generation),
      workers: this.deployments.workersOf(row).length,
    };
  }
}
