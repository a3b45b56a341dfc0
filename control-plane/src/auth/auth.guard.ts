// Nest guard of the HTTP door: `@Requires('generate')` on a controller or a route. A route without it is refused, since a
// forgotten decorator must not become an open door; `@Public()` says that a route is meant to be open.
import type { CanActivate, CustomDecorator, ExecutionContext } from '@nestjs/common';
import { Inject, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ErrorCode } from '@spotlight/proto';
import type { Request } from 'express';
import type { Config } from '../config/config.js';
import { CONFIG, isLoopback } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import type { Principal } from './auth.service.js';
import { AuthService, bearer } from './auth.service.js';
import type { Scope } from './scopes.js';

const SCOPE = 'spotlight:scope';

export const Requires = (scope: Scope): CustomDecorator => SetMetadata(SCOPE, scope);
export const Public = (): CustomDecorator => SetMetadata(SCOPE, 'public');

/** What the guard leaves on the request for whoever logs it. */
export interface AuthenticatedRequest extends Request {
  principal?: Principal;
}

@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    @Inject(Reflector) private readonly reflector: Reflector,
    @Inject(AuthService) private readonly auth: AuthService,
    @Inject(CONFIG) private readonly config: Pick<Config, 'keysRequired'>,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const scope = this.reflector.getAllAndOverride<Scope | 'public' | undefined>(SCOPE, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (scope === 'public') return true;
    if (scope === undefined) throw new Error(`${context.getClass().name} names no scope for its route`);
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    if (!this.config.keysRequired) refuseForeignHost(request);
    request.principal = await this.auth.authenticate(bearer(request.headers.authorization), scope);
    return true;
  }
}

/**
 * Without keys, a web page that points its own name at 127.0.0.1 could use this server through the visitor's browser;
 * the Host header then still carries that name.
 */
function refuseForeignHost(request: Request): void {
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  if (host === '' || isLoopback(host)) return;
  throw new ServiceError(
    ErrorCode.PERMISSION_DENIED,
    `Without API keys only requests to localhost are served, and this one names "${host}"; use a loopback address, or start with --auth required.`,
  );
}
