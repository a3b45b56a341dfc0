// The OpenAPI 3.1 document of the admin API, made of Nest's own route metadata and of each route's @Describe. Pure over the controllers.
import { RequestMethod } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { z } from 'zod';
import type { Operation } from './operation.js';
import { OPERATION } from './operation.js';

export interface Route {
  readonly method: string;
  /** `/api/v1/artifacts/{digest}` */
  readonly path: string;
  /** Undefined when the route has no @Describe. */
  readonly operation: Operation | undefined;
  /** `ArtifactsController.list` */
  readonly handler: string;
}

export type ControllerClass = abstract new (...parameters: never[]) => object;

/** Every route of these controllers, in the order of their paths. */
export function routesOf(controllers: readonly ControllerClass[]): Route[] {
  return controllers
    .flatMap((controller) => {
      const base = String(Reflect.getMetadata(PATH_METADATA, controller) ?? '');
      // By descriptor: reading a getter would run it, on no instance.
      const members = Object.entries(Object.getOwnPropertyDescriptors(controller.prototype as object));
      return members.flatMap(([name, { value: handler }]: [string, { value?: unknown }]): Route[] => {
        if (typeof handler !== 'function' || name === 'constructor') return [];
        const path: unknown = Reflect.getMetadata(PATH_METADATA, handler);
        if (typeof path !== 'string') return [];
        const method = Number(Reflect.getMetadata(METHOD_METADATA, handler) ?? RequestMethod.GET);
        return [
          {
            method: (RequestMethod[method] ?? 'GET').toLowerCase(),
            path: `/${base}/${path}`
              .replace(/\/+/g, '/')
              .replace(/\/$/, '')
              .replace(/:(\w+)/g, '{$1}'),
            operation: Reflect.getMetadata(OPERATION, handler) as Operation | undefined,
            handler: `${controller.name}.${name}`,
          },
        ];
      });
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

const ERROR = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

export function openApiDocument(routes: readonly Route[], version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { method, path, operation, handler } of routes) {
    if (operation === undefined) continue;
    (paths[path] ??= {})[method] = describe(path, operation, handler);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Spotlight Serve admin API',
      version,
      description:
        'Keys, workers, models, deployments, artifacts and the audit log. Every route wants a key of scope admin, unless the server is ' +
        'bound to loopback. Errors have the shape of the OpenAI API; error.code says what went wrong.',
    },
    security: [{ key: [] }],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
      schemas: { Error: jsonSchema(ERROR) },
    },
  };
}

function describe(path: string, operation: Operation, handler: string): Record<string, unknown> {
  const { summary, body, query, headers = {}, status = 200, answer, errors = [] } = operation;
  const parameters = [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => parameter('path', name ?? '', true, {})),
    ...(query === undefined ? [] : queryParameters(query)),
    ...Object.entries(headers).map(([name, description]) =>
      parameter('header', name, false, { type: 'string' }, description),
    ),
  ];
  return {
    operationId: handler.replace('Controller.', '.'),
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: content(body, 'input') } }),
    responses: {
      [String(status)]: {
        description: 'done',
        ...(answer === undefined ? {} : { content: content(answer, 'output') }),
      },
      default: {
        description: errors.length === 0 ? 'an error' : `an error; among its codes: ${errors.join(', ')}`,
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  };
}

function parameter(
  place: 'path' | 'query' | 'header',
  name: string,
  required: boolean,
  schema: object,
  description?: string,
): Record<string, unknown> {
  const type = Object.keys(schema).length === 0 ? { type: 'string' } : schema;
  return { name, in: place, required, schema: type, ...(description === undefined ? {} : { description }) };
}

function queryParameters(query: z.ZodObject): Record<string, unknown>[] {
  const { properties = {}, required = [] } = jsonSchema(query, 'input') as {
    properties?: Record<string, object>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) =>
    parameter('query', name, required.includes(name), schema),
  );
}

function content(kind: z.ZodType | 'bytes', io: 'input' | 'output'): Record<string, unknown> {
  if (kind === 'bytes') {
    return { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };
  }
  return { 'application/json': { schema: jsonSchema(kind, io) } };
}

function jsonSchema(schema: z.ZodType, io: 'input' | 'output' = 'output'): Record<string, unknown> {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}
