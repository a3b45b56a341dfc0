// Keys, scopes and the guard of the HTTP door.
import { Module } from '@nestjs/common';
import { AuthGuard } from './auth.guard.js';
import { AuthService } from './auth.service.js';
import { FirstAdminKey } from './first-admin-key.js';
import { KeyLimiter } from './key-limiter.js';
import { KeyStore } from './key-store.js';
import { LeaseStore } from './lease-store.js';

@Module({
  providers: [KeyStore, LeaseStore, KeyLimiter, AuthService, AuthGuard, FirstAdminKey],
  exports: [KeyStore, KeyLimiter, AuthService, AuthGuard, FirstAdminKey],
})
export class AuthModule {}
