// Every controller of this server, found by its file: each route under /api/v1 must describe itself, and the document must hold exactly
// those routes. A description that is missing fails here by the name of its handler.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import 'reflect-metadata';
import { openApiDocument, routesOf } from './document.js';
import type { ControllerClass, Route } from './document.js';

type Schema = Record<string, unknown>;
interface Document {
  readonly openapi: string;
  readonly paths: Record<
    string,
    Record<string, { responses: Schema; parameters?: Schema[]; requestBody?: Schema }>
  >;
}

describe('OpenAPI document', () => {
  let routes: Route[];
  before(async () => {
    const root = join(import.meta.dirname, '..');
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.controller.js'),
    );
    const classes: ControllerClass[] = [];
    for (const file of files) {
      const module = (await import(pathToFileURL(join(root, file)).href)) as Record<string, unknown>;
      for (const [name, value] of Object.entries(module)) {
        if (name.endsWith('Controller')) classes.push(value as ControllerClass);
      }
    }
    routes = routesOf(classes).filter(({ path }) => path.startsWith('/api/v1/'));
  });

  it('has a @Describe on every route under /api/v1', () => {
    const silent = routes.filter(({ operation }) => operation === undefined).map(({ handler }) => handler);
    assert.deepEqual(silent, [], 'add @Describe (openapi/operation.ts) to these');
    assert.ok(routes.length >= 20, `only ${routes.length} routes were found`);
  });

  it('holds every route with its body, its parameters and its answer', () => {
    const document = openApiDocument(routes, '1.2.3') as unknown as Document;
    const listed = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    assert.deepEqual(listed.sort(), routes.map(({ method, path }) => `${method} ${path}`).sort());
    assert.equal(document.openapi, '3.1.0');

    const put = document.paths['/api/v1/artifacts/uploads/{id}']?.['put'];
    assert.deepEqual(
      put?.parameters?.map(({ name, in: place, required }) => [name, place, required]),
      [
        ['id', 'path', true],
        ['upload-offset', 'header', false],
      ],
    );
    assert.ok(JSON.stringify(put.requestBody).includes('application/octet-stream'));
    const list = document.paths['/api/v1/artifacts']?.['get'];
    assert.deepEqual(
      list?.parameters?.map(({ name, required }) => [name, required]),
      [
        ['state', false],
        ['fingerprint', false],
        ['after', false],
        ['limit', false],
      ],
    );
    assert.ok(Object.keys(list.responses).includes('200'));
    assert.doesNotThrow(() => JSON.stringify(document));
  });
});
