// Keys, scopes and the guard of the HTTP door.
import { Module } from '@nestjs/common';
import { AuthGuard } from './auth.guard.js';
import { AuthService } from './auth.service.js';
import { FirstAdminKey } from './first-admin-key.js';
import { KeyStore } from './key-store.js';

@Module({
  providers: [KeyStore, AuthService, AuthGuard, FirstAdminKey],
  exports: [KeyStore, AuthService, AuthGuard, FirstAdminKey],
})
export class AuthModule {}
