import assert from 'node:assert/strict';
import type { ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ErrorCode } from '@spotlight/proto';
import { AuthGuard, Public, Requires } from './auth.guard.js';
import type { AuthService } from './auth.service.js';
import type { Scope } from './scopes.js';

@Requires('admin')
class Routes {
  ofItsClass(): void {
    return;
  }
  @Requires('generate')
  ownScope(): void {
    return;
  }
  @Public()
  open(): void {
    return;
  }
}
class Forgotten {
  route(): void {
    return;
  }
}

describe('AuthGuard', () => {
  const asked: [string | undefined, Scope][] = [];
  const auth = {
    authenticate: (key: string | undefined, scope: Scope) => {
      asked.push([key, scope]);
      return Promise.resolve({ keyId: 'k', name: 'k', scopes: [scope] });
    },
  } as unknown as AuthService;

  function enter(
    headers: Record<string, string>,
    type: new () => object = Routes,
    method = 'ofItsClass',
    keysRequired = false,
  ): Promise<boolean> {
    asked.length = 0;
    const handler = (type.prototype as Record<string, () => void>)[method];
    const context = {
      getHandler: () => handler,
      getClass: () => type,
      switchToHttp: () => ({ getRequest: () => ({ headers }) }),
    } as unknown as ExecutionContext;
    return new AuthGuard(new Reflector(), auth, { keysRequired }).canActivate(context);
  }

  it("asks for the route's scope before its class's", async () => {
    assert.ok(await enter({ authorization: 'Bearer abc' }));
    assert.deepEqual(asked, [['abc', 'admin']]);
    assert.ok(await enter({}, Routes, 'ownScope'));
    assert.deepEqual(asked, [[undefined, 'generate']]);
    assert.ok(await enter({}, Routes, 'open'));
    assert.deepEqual(asked, []);
  });

  it('refuses a route that names no scope', async () => {
    await assert.rejects(enter({}, Forgotten, 'route'), /Forgotten names no scope/);
  });

  it('refuses a foreign Host while no keys are required: a page could have pointed its name here', async () => {
    for (const host of ['evil.example', 'evil.example:8000', '127.0.0.1.evil.example', '10.0.0.1:8000']) {
      await assert.rejects(enter({ host }), { code: ErrorCode.PERMISSION_DENIED }, host);
      assert.ok(await enter({ host }, Routes, 'ofItsClass', true));
    }
    for (const host of ['localhost', 'localhost:8000', '127.0.0.1:8000', '[::1]:8000']) {
      assert.ok(await enter({ host }), host);
    }
  });
});
