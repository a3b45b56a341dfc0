// Who is asking and whether they may. One method serves every door: HTTP, gRPC and joining workers differ only in where the
// credential stands. Without keys (loopback, auth=auto) everyone on this machine is the operator.
import { Inject, Injectable } from '@nestjs/common';
import type { Metadata } from '@grpc/grpc-js';
import { ErrorCode } from '@spotlight/proto';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';
import { sameSecret } from './key.js';
import { KeyStore } from './key-store.js';
import type { KeyLimits } from './limits.js';
import { NO_LIMITS } from './limits.js';
import type { Scope } from './scopes.js';
import { allows } from './scopes.js';

/** Who a request comes from, for logs: never the key itself. */
export interface Principal {
  readonly keyId: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly limits: KeyLimits;
}

const OPERATOR: Principal = Object.freeze({
  keyId: 'local',
  name: 'local',
  scopes: ['admin'] as const,
  limits: NO_LIMITS,
});
const ADMIN_KEY: Principal = Object.freeze({
  keyId: 'admin',
  name: 'admin key',
  scopes: ['admin'] as const,
  limits: NO_LIMITS,
});
const JOIN_TOKEN: Principal = Object.freeze({
  keyId: 'join',
  name: 'join token',
  scopes: ['worker'] as const,
  limits: NO_LIMITS,
});

@Injectable()
export class AuthService {
  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'keysRequired' | 'adminKey' | 'joinTokens'>,
    @Inject(KeyStore) private readonly keys: Pick<KeyStore, 'find'>,
  ) {}

  /**
   * @param key the bare credential, undefined when none was sent
   * @throws ServiceError UNAUTHENTICATED without a good key where one is demanded, PERMISSION_DENIED for one of other scopes
   */
  async authenticate(key: string | undefined, scope: Scope): Promise<Principal> {
    const principal = await this.#principal(key, scope);
    if (allows(principal.scopes, scope)) return principal;
    throw new ServiceError(
      ErrorCode.PERMISSION_DENIED,
      `The key "${principal.name}" has the scopes ${principal.scopes.join(', ')}; this needs ${scope}.`,
    );
  }

  /** The same for a gRPC call: `authorization: Bearer KEY` in its metadata. */
  authenticateCall(metadata: Metadata, scope: Scope): Promise<Principal> {
    const header = metadata.get('authorization')[0];
    return this.authenticate(bearer(typeof header === 'string' ? header : undefined), scope);
  }

  async #principal(key: string | undefined, scope: Scope): Promise<Principal> {
    if (!this.config.keysRequired) return OPERATOR;
    if (key === undefined || key === '') {
      throw new ServiceError(
        ErrorCode.UNAUTHENTICATED,
        scope === 'worker'
          ? 'A join token is needed: start the worker with one of SPOTLIGHT_JOIN_TOKENS or with a key of scope worker.'
          : 'An API key is needed: send "Authorization: Bearer KEY".',
      );
    }
    if (this.config.adminKey !== undefined && sameSecret(key, this.config.adminKey)) return ADMIN_KEY;
    if (scope === 'worker' && this.config.joinTokens.some((token) => sameSecret(key, token)))
      return JOIN_TOKEN;
    const info = await this.keys.find(key);
    if (info !== undefined) {
      return { keyId: info.id, name: info.name, scopes: info.scopes, limits: info.limits };
    }
    throw new ServiceError(
      ErrorCode.UNAUTHENTICATED,
      scope === 'worker'
        ? 'The join token is not known here or has expired; give the worker one of SPOTLIGHT_JOIN_TOKENS or a key of scope worker.'
        : 'The API key is not known, has been revoked or has expired; ask the operator for another.',
    );
  }
}

/** Whom limits and logs count a request to; undefined for the operator of a server without keys. */
export function callerOf(principal: Principal): string | undefined {
  return principal === OPERATOR ? undefined : principal.keyId;
}

/** The key of an Authorization header; any other scheme is no key. */
export function bearer(header: string | undefined): string | undefined {
  return /^bearer +([^\s]+) *$/i.exec(header ?? '')?.[1];
}
