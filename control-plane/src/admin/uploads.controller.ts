// /api/v1/artifacts/uploads: an artifact sent in ranges. Announce it, PUT what follows `offset` until it is the size, complete. After
// any break GET tells the offset to go on from.
import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post, Put, Req } from '@nestjs/common';
import type { Request } from 'express';
import { z } from 'zod';
import type { ArtifactView } from '../artifacts/artifact-view.js';
import { ArtifactsService } from '../artifacts/artifacts.service.js';
import type { UploadView } from '../artifacts/uploads.js';
import { Uploads } from '../artifacts/uploads.js';
import { Actor } from '../auth/actor.js';
import { Requires } from '../auth/auth.guard.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { PUSH_ERRORS } from './artifacts.controller.js';
import { bytesOf, offsetOf, optionalLength } from './byte-headers.js';
import { ADMITTED, DIGEST, UPLOAD } from './shapes.js';

const BEGIN = z.strictObject({
  size: z.int().min(1),
  digest: DIGEST,
  parent: DIGEST.optional(),
});

@Controller('api/v1/artifacts/uploads')
@Requires('admin')
export class UploadsController {
  constructor(
    @Inject(Uploads) private readonly uploads: Uploads,
    @Inject(ArtifactsService) private readonly artifacts: ArtifactsService,
  ) {}

  @Post()
  @Describe({
    summary: 'Announces an upload: the size and the SHA-256 of the whole file',
    body: BEGIN,
    status: 201,
    answer: UPLOAD,
    errors: ['artifact_too_large', 'artifact_exists'],
  })
  begin(@Body() body: unknown): Promise<UploadView> {
    const { size, digest, parent } = parseBody(BEGIN, body);
    return this.uploads.begin({ size, digest, parent, source: 'upload' });
  }

  @Get(':id')
  @Describe({
    summary: 'Tells how many bytes of an upload are safe here',
    answer: UPLOAD,
    errors: ['upload_not_found'],
  })
  show(@Param('id') id: string): Promise<UploadView> {
    return this.uploads.get(id);
  }

  @Put(':id')
  @Describe({
    summary:
      'Adds the range that begins at Upload-Offset; a connection that still writes this upload is ended',
    headers: { 'upload-offset': 'the byte of the file this body begins at, which is `offset` of the upload' },
    body: 'bytes',
    answer: UPLOAD,
    errors: ['upload_not_found', 'offset_mismatch', 'upload_too_long', 'upload_broken'],
  })
  append(@Param('id') id: string, @Req() request: Request): Promise<UploadView> {
    return this.uploads.append(id, offsetOf(request), bytesOf(request), optionalLength(request));
  }

  @Post(':id/complete')
  @Describe({
    summary:
      'Makes the upload an artifact, or refuses it; `created` is false when the same bytes were here before',
    status: 201,
    answer: ADMITTED,
    errors: ['upload_not_found', 'upload_incomplete', 'upload_busy', ...PUSH_ERRORS],
  })
  async complete(
    @Param('id') id: string,
    @Actor() actor: string,
  ): Promise<{ created: boolean; artifact: ArtifactView }> {
    const { created, artifact } = await this.uploads.complete(id, actor);
    return { created, artifact: await this.artifacts.view(artifact) };
  }

  @Delete(':id')
  @HttpCode(204)
  @Describe({ summary: 'Drops an upload and its bytes', status: 204, errors: ['upload_not_found'] })
  async cancel(@Param('id') id: string): Promise<void> {
    await this.uploads.cancel(id);
  }
}
