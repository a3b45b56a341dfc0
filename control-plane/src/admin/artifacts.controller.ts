// /api/v1/artifacts: the registry of hash artifacts. A digest in a path may be cut short while it stays the only one.
import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Inject,
  Param,
  Post,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import type { Request, Response } from 'express';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import type { ArtifactView } from '../artifacts/artifact-view.js';
import { ArtifactsService } from '../artifacts/artifacts.service.js';
import { Uploads } from '../artifacts/uploads.js';
import type { Verdict } from '../artifacts/validation.js';
import { Validation } from '../artifacts/validation.js';
import { Actor } from '../auth/actor.js';
import { Requires } from '../auth/auth.guard.js';
import { invalidArgument } from '../errors/service-error.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { bytesOf, lengthOf, rangeStart } from './byte-headers.js';
import { ADMITTED, ARTIFACT, DIGEST, LIMIT, STATE, VERDICT } from './shapes.js';

const LIST = z.strictObject({
  state: STATE.optional(),
  fingerprint: DIGEST.optional(),
  after: DIGEST.optional(),
  limit: LIMIT,
});
const PUSH = z.strictObject({ digest: DIGEST.optional(), parent: DIGEST.optional() });
const VALIDATE = z.strictObject({
  deployment: z.string().min(1).max(200).optional(),
  force: z.boolean().default(false),
});
const RETIRE = z.strictObject({ reason: z.string().max(1000).default('') });

/** What a push can be refused with, in one request or in ranges. */
export const PUSH_ERRORS = [
  'artifact_too_large',
  'artifact_exists',
  'digest_mismatch',
  'artifact_corrupt',
  'artifact_mismatch',
  'upload_broken',
] as const;
const HELD = ['artifact_not_found', 'artifact_active', 'artifact_in_use'] as const;

@Controller('api/v1/artifacts')
@Requires('admin')
export class ArtifactsController {
  constructor(
    @Inject(ArtifactsService) private readonly artifacts: ArtifactsService,
    @Inject(Uploads) private readonly uploads: Uploads,
    @Inject(Validation) private readonly validation: Validation,
  ) {}

  @Get()
  @Describe({
    summary: 'Lists artifacts, latest first; the last digest of a page is `after` of the next',
    query: LIST,
    answer: z.object({ artifacts: z.array(ARTIFACT) }),
  })
  async list(@Query() query: unknown): Promise<{ artifacts: ArtifactView[] }> {
    return { artifacts: await this.artifacts.list(parseBody(LIST, query)) };
  }

  @Post()
  @Describe({
    summary: 'Pushes an artifact in one request; large ones are better sent by /uploads, which resumes',
    query: PUSH,
    body: 'bytes',
    status: 201,
    answer: ADMITTED,
    errors: PUSH_ERRORS,
  })
  async push(
    @Query() query: unknown,
    @Req() request: Request,
    @Actor() actor: string,
  ): Promise<{ created: boolean; artifact: ArtifactView }> {
    const { digest, parent } = parseBody(PUSH, query);
    const announcement = { size: lengthOf(request), digest, parent, source: 'upload' };
    const { created, artifact } = await this.uploads.receive(announcement, bytesOf(request), actor);
    return { created, artifact: await this.artifacts.view(artifact) };
  }

  @Get(':digest')
  @Describe({ summary: 'Shows one artifact', answer: ARTIFACT, errors: ['artifact_not_found'] })
  show(@Param('digest') digest: string): Promise<ArtifactView> {
    return this.artifacts.get(digest);
  }

  @Get(':digest/content')
  @Describe({
    summary: 'Downloads the safetensors file',
    headers: { range: '`bytes=N-` goes on from byte N, answered with 206' },
    answer: 'bytes',
    errors: ['artifact_not_found', 'artifact_without_bytes'],
  })
  async download(
    @Param('digest') digest: string,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    const start = rangeStart(request.headers.range);
    const { digest: whole, size, body } = await this.artifacts.bytes(digest, start ?? 0);
    if (start !== undefined && start >= size) {
      throw invalidArgument('range', `The artifact has ${size} bytes; a range begins below that.`);
    }
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': size - (start ?? 0),
      'content-disposition': `attachment; filename="${whole}.safetensors"`,
      'accept-ranges': 'bytes',
      etag: `"${whole}"`,
    };
    if (start === undefined) response.writeHead(200, headers);
    else response.writeHead(206, { ...headers, 'content-range': `bytes ${start}-${size - 1}/${size}` });
    await pipeline(Readable.from(body), response);
  }

  @Post(':digest/validate')
  @HttpCode(200)
  @Describe({
    summary:
      'Has a worker measure the artifact and takes it as validated or rejects it; `force` lets one pass that falls short',
    body: VALIDATE,
    answer: VERDICT,
    errors: [
      'artifact_not_found',
      'artifact_retired',
      'artifact_mismatch',
      'deployment_not_found',
      'no_worker',
    ],
  })
  async validate(
    @Param('digest') digest: string,
    @Body() body: unknown,
    @Actor() actor: string,
  ): Promise<Omit<Verdict, 'artifact' | 'quality'> & { artifact: ArtifactView }> {
    const { deployment, force } = parseBody(VALIDATE, body ?? {});
    const verdict = await this.validation.validate(digest, { deployment, force, actor });
    const { artifact, passed, reason, baseline } = verdict;
    const view = await this.artifacts.view(artifact);
    return { passed, reason, deployment: verdict.deployment, baseline, artifact: view };
  }

  @Post(':digest/retire')
  @HttpCode(200)
  @Describe({
    summary: 'Takes an artifact out of use for ever; its bytes stay',
    body: RETIRE,
    answer: ARTIFACT,
    errors: [...HELD, 'artifact_retired'],
  })
  retire(
    @Param('digest') digest: string,
    @Body() body: unknown,
    @Actor() actor: string,
  ): Promise<ArtifactView> {
    const { reason } = parseBody(RETIRE, body ?? {});
    return this.artifacts.retire(digest, reason, actor);
  }

  @Delete(':digest')
  @HttpCode(204)
  @Describe({
    summary: 'Deletes an artifact that is not active, with its bytes; the audit log keeps what it was',
    status: 204,
    errors: HELD,
  })
  async remove(@Param('digest') digest: string, @Actor() actor: string): Promise<void> {
    await this.artifacts.remove(digest, actor);
  }
}
