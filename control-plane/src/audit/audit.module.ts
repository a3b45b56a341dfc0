// The audit log; whoever changes something writes to it by `audit(db, …)` inside its own transaction.
import { Module } from '@nestjs/common';
import { AuditLog } from './audit-log.js';

@Module({ providers: [AuditLog], exports: [AuditLog] })
export class AuditModule {}
