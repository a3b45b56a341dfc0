// /api/v1/openapi.json: the admin API as its own routes describe it.
import type { OnModuleInit } from '@nestjs/common';
import { Controller, Get, Inject } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { z } from 'zod';
import { Requires } from '../auth/auth.guard.js';
import { VERSION } from '../cli/version.js';
import type { ControllerClass } from '../openapi/document.js';
import { openApiDocument, routesOf } from '../openapi/document.js';
import { Describe } from '../openapi/operation.js';

const PREFIX = '/api/v1/';

@Controller('api/v1')
@Requires('admin')
export class OpenApiController implements OnModuleInit {
  #document: Record<string, unknown> = {};

  constructor(@Inject(DiscoveryService) private readonly discovery: DiscoveryService) {}

  onModuleInit(): void {
    const classes = this.discovery
      .getControllers()
      .flatMap(({ metatype }) => (typeof metatype === 'function' ? [metatype as ControllerClass] : []));
    const routes = routesOf(classes).filter(({ path }) => path.startsWith(PREFIX));
    this.#document = openApiDocument(routes, VERSION);
  }

  @Get('openapi.json')
  @Describe({ summary: 'This document', answer: z.record(z.string(), z.unknown()) })
  document(): Record<string, unknown> {
    return this.#document;
  }
}
