// /api/v1/rollouts: start, list, look at, and the four orders.
import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Req } from '@nestjs/common';
import { z } from 'zod';
import type { AuthenticatedRequest } from '../auth/auth.guard.js';
import { Requires } from '../auth/auth.guard.js';
import { invalidArgument } from '../errors/service-error.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import type { RolloutDetail, RolloutView } from './rollout-view.js';
import { RolloutViews } from './rollout-view.js';
import type { Order } from './rollouts.service.js';
import { RolloutsService } from './rollouts.service.js';
import { PLAN } from './rollout.js';

const START = z.strictObject({
  artifact: z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be the 64 hex digits of an artifact' }),
  deployment: z.string().min(1).max(200).optional(),
  plan: PLAN.prefault({}),
  force: z.boolean().default(false),
  reason: z.string().max(1000).default(''),
});
const ORDER = z.strictObject({ reason: z.string().max(1000).default('') });
const MOST_LISTED = 200;
/** The fields that a program steers by; the views hold more. */
const ROLLOUT = z.looseObject({
  id: z.string(),
  deployment: z.string(),
  phase: z.string(),
  reason: z.string(),
});
const ORDER_ERRORS = ['rollout_not_found', 'rollout_ended', 'rollout_moved'] as const;

@Controller('api/v1/rollouts')
@Requires('admin')
export class RolloutsController {
  constructor(
    @Inject(RolloutsService) private readonly rollouts: RolloutsService,
    @Inject(RolloutViews) private readonly views: RolloutViews,
  ) {}

  @Post()
  @Describe({
    summary: 'Starts a rollout of an artifact to a deployment',
    body: START,
    status: 201,
    answer: ROLLOUT,
    errors: ['rollout_under_way', 'artifact_retired', 'artifact_mismatch', 'artifact_needs_workers'],
  })
  async start(@Body() body: unknown, @Req() request: AuthenticatedRequest): Promise<RolloutDetail> {
    const { deployment, ...order } = parseBody(START, body);
    return this.views.detail(await this.rollouts.start({ ...order, deployment, actor: actorOf(request) }));
  }

  @Get()
  @Describe({
    summary: 'Lists rollouts, newest first',
    query: z.object({ deployment: z.string().optional(), limit: z.int().max(MOST_LISTED).optional() }),
    answer: z.object({ rollouts: z.array(ROLLOUT) }),
  })
  async list(
    @Query('deployment') deployment: string | undefined,
    @Query('limit') limit: string | undefined,
  ): Promise<{ rollouts: RolloutView[] }> {
    const count = limit === undefined ? 50 : Number(limit);
    if (!Number.isInteger(count) || count < 1 || count > MOST_LISTED) {
      throw invalidArgument('limit', `limit must be a whole number from 1 to ${MOST_LISTED}.`);
    }
    return { rollouts: await this.views.list(deployment, count) };
  }

  @Get(':id')
  @Describe({ summary: 'Shows one rollout', answer: ROLLOUT, errors: ['rollout_not_found'] })
  get(@Param('id') id: string): Promise<RolloutDetail> {
    return this.views.detail(id);
  }

  @Post(':id/pause')
  @HttpCode(200)
  @Describe({ summary: 'Holds a rollout where it is', body: ORDER, answer: ROLLOUT, errors: ORDER_ERRORS })
  pause(
    @Param('id') id: string,
    @Body() body: unknown,
    @Req() request: AuthenticatedRequest,
  ): Promise<RolloutDetail> {
    return this.#order(id, 'pause', body, request);
  }

  @Post(':id/resume')
  @HttpCode(200)
  @Describe({ summary: 'Lets a paused rollout go on', body: ORDER, answer: ROLLOUT, errors: ORDER_ERRORS })
  resume(
    @Param('id') id: string,
    @Body() body: unknown,
    @Req() request: AuthenticatedRequest,
  ): Promise<RolloutDetail> {
    return this.#order(id, 'resume', body, request);
  }

  @Post(':id/promote')
  @HttpCode(200)
  @Describe({
    summary: 'Takes a rollout to its last wave, past its gates',
    body: ORDER,
    answer: ROLLOUT,
    errors: [...ORDER_ERRORS, 'artifact_retired'],
  })
  promote(
    @Param('id') id: string,
    @Body() body: unknown,
    @Req() request: AuthenticatedRequest,
  ): Promise<RolloutDetail> {
    return this.#order(id, 'promote', body, request);
  }

  @Post(':id/abort')
  @HttpCode(200)
  @Describe({ summary: 'Rolls a rollout back', body: ORDER, answer: ROLLOUT, errors: ORDER_ERRORS })
  abort(
    @Param('id') id: string,
    @Body() body: unknown,
    @Req() request: AuthenticatedRequest,
  ): Promise<RolloutDetail> {
    return this.#order(id, 'abort', body, request);
  }

  /** An order needs no body. */
  async #order(
    id: string,
    order: Order,
    body: unknown,
    request: AuthenticatedRequest,
  ): Promise<RolloutDetail> {
    const { reason } = parseBody(ORDER, body ?? {});
    await this.rollouts.order(id, order, actorOf(request), reason);
    return this.views.detail(id);
  }
}

function actorOf({ principal }: AuthenticatedRequest): string {
  if (principal === undefined) throw new Error('a request came past the guard without a principal');
  return principal.keyId;
}
