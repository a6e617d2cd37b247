"""An RSA key pair for examples only: public knowledge, and used by no installation.

It is fixed rather than generated, so that the same example has the same bytes on every machine and
in every run.
"""

from __future__ import annotations

from typing import Final

RSA_PUBLIC_PEM: Final = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5w6g2N01dlOp0O/6u9jB
EVMPpN9oKTOKtwhiwtfE7f2tZuVE+TnV4ChWrKg7TDvt61NWrUxD/7Hsatv/q9fr
ABLtXuaNnc+4UWN7fnUWRReY9/kK5CRHHc0IELJqwUPAn0iJKPsb/xhsTCOA+/AA
EKGj1RGHGiDpLI6DmEAuX3RL/i50ux6XdZparrc0TcnITJYpqRP9w3IR4guyr+/P
3alkt/Iw0avoIF9Dx4KSn9Vz6CPgow/b7Zqy+h9KKg5Q4lN40EP9bEnO8eR8uylk
/9bAQK231K2+9lNUlnCu/vSPoluR62Lwq5uYPKpa/8RxiDJtZpTaCe9be/W4XYl9
4QIDAQAB
-----END PUBLIC KEY-----
"""

RSA_OTHER_PUBLIC_PEM: Final = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5mH30zWPkDrXkjMr1ImK
Mr553YggHTtMLDt1ze61bkJWLrCy2UCly0POxJS/awu626Q2FuKfmyRtxnWUaNQ3
IsuqdQUQ8PQpu8/8uCw25mw9swlIlGcJn9FCacnEyM2jSXt15emsYjztQG6X5Nkc
CDEqTTkCqnTlzhss3B/BEHShpcrFtKqDZWa2V2qphE2MsfbGGQEUcD4cFeJKG2fC
RZKfn12TOniYyB/gcwcrXD4wTRAQ/Wbj3qa53N/WweWPMW/lVy136uqL3474TUKy
nVS7eXyw3oijr7Otd3M6rlb4VAmDYMjI6ntVvgamxA/XmWYeb37Fz00dcZ+ugW1Y
PQIDAQAB
-----END PUBLIC KEY-----
"""
"""The public key of another pair, whose private half was not kept.

It verifies no signature of the examples.
"""

RSA_PRIVATE_PEM: Final = """\
-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDnDqDY3TV2U6nQ
7/q72MERUw+k32gpM4q3CGLC18Tt/a1m5UT5OdXgKFasqDtMO+3rU1atTEP/sexq
2/+r1+sAEu1e5o2dz7hRY3t+dRZFF5j3+QrkJEcdzQgQsmrBQ8CfSIko+xv/GGxM
I4D78AAQoaPVEYcaIOksjoOYQC5fdEv+LnS7Hpd1mlqutzRNychMlimpE/3DchHi
C7Kv78/dqWS38jDRq+ggX0PHgpKf1XPoI+CjD9vtmrL6H0oqDlDiU3jQQ/1sSc7x
5Hy7KWT/1sBArbfUrb72U1SWcK7+9I+iW5HrYvCrm5g8qlr/xHGIMm1mlNoJ71t7
9bhdiX3hAgMBAAECggEAIz5feYTQbVKYogag47tNw8M8LSVooXQ7seyFB/xajQS3
SO0qxqs0PONaSS7GELxJb65AF+H8s0lj6u7QwlkGfvXkICghrNMs5bk7cpAQjAxr
6FMj/qWr9Vc7ZjSYxQ79GC67wTUAUbpbdoep2oQCtoa5Uzw/s9QWTRYV64jKqgNs
iC1dRXFdRj6eOp+IbxJX1llBPgaNrqHna09f2GUmc8vgXrThzVgVBbi/M+puhae0
Awc3u0RBHeFHzkxTM7J3wz9Q9Bk/1iBoskZ6PgPl5UVin2zbHM0/sDzSjsHu5KrV
nBs3cP9jV1ABZo8Y4o+gpsa/FbufqhFssAcyGPpD+wKBgQD4G7zRckDfNcM0Zb71
Tf0WmijsmkIrdTj+TV5DOLAi47RFstuztrY894v6UQgd33qd0Xu4IfqZVjqVfADT
+zSxd4di6yRIBLdEoDRuacG1Eril7Jbvd2vBz8n6ZTQWyvFqtFD/pTBhI1y/bpbP
Cn+xkM5oMnAIJii3ENtsWrv2WwKBgQDuaAxrcwCOHq34lGTqkFRY3gyZyyc1ku36
FOGYzfk9/Q+Bx1naVDYhOMkfRJNp4M70srZGYKMIydct5+6PYbSEMHiEscKINTtS
GkqEFLvadVme7HnF7WoHWyZduWzm6OU2jOKlUmEBtGLv8OeT2rl7nlaQ/aE7GWlh
c7+tJ3PpcwKBgQD059RbXo9ghZ45c5GqbKA9llB9NMvKP/zRMSex7RwYZHJHNoUe
AWYkCirXHPOJIVbUv7qDCK9oerB7bBsZJGdgIl+2qet3V4hcKlN3Bdea2G8CAeb/
W/83Idf63bksIolpTbKCltmJmTFtGUmt92wSp6DHQ7pIoPohsncVnv7Y7wKBgDw1
TMWqEn7R4q+/kkjm0FZtJZOFic5u3+jjcyHrCsIL8emdleScldsIA0sBP5VisAF+
TKgzaZkjmFNAmq/dRgCIWTdxySYrA2M1vpHixppiPpLzN8Gztq5K58KNvKIIOTLw
m6CS0GrkyoO8PE/L0kIU99nAJALP5Rw2ZjbtmslfAoGBAO7un41BSIZ15ZX+NdRQ
iLAuVeQfKlUSlad4o8HgWYqYVCBAuPXMrxtxOCB76SdzSJnPHtGYcfe/vGU5+DSC
q57hiR502VM71QekbcVgfB7heT1P7Jq7+DAl6o/Ubta8g61ZohIZ/kcxP8hAa7na
wyVDQOS7hKAvw+bwBAvpH6Xu
-----END PRIVATE KEY-----
"""
