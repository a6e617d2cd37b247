"""What every component that uses the database shares: the roles it works under, and how its tables
come to be.
"""
