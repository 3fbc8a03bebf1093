"""The roles of the role table (docs: who may do what), by the names that policies use."""

import enum


class Role(enum.StrEnum):
    """What a user is to Vitrine.  One may have several; rights add up, prohibitions win."""

    DOCTOR = "doctor"
    BACKUP_OPERATOR = "backup-operator"
    RESTORE_OPERATOR = "restore-operator"
    AUDITOR = "auditor"
    IT_ADMINISTRATOR = "it-administrator"
    DEPARTMENT_HEAD = "department-head"
    IT_HEAD = "it-head"
    SECURITY_OFFICER = "security-officer"
    CUSTODIAN = "custodian"
