// Who asks, as the audit log names them: the id of the key, `local` on a server without keys, `admin` for the operator's own.
import type { ExecutionContext } from '@nestjs/common';
import { createParamDecorator } from '@nestjs/common';
import type { AuthenticatedRequest } from './auth.guard.js';

export const Actor = createParamDecorator((_data: unknown, context: ExecutionContext): string => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (principal === undefined) throw new Error('a route that names its actor must require a scope');
  return principal.keyId;
});
