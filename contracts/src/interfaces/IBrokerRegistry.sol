// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title The public list of brokers a host can ask for IPv6 space.
/// @notice Broker ids count from 1; 0 means "none". An id is never reused, so a client may store it.
/// Functions, struct and events answer as the first two generations in the field do; `rotateOperator`,
/// `updateRequestsContract`, `BrokerRemoved`, `OperatorRotated` and the custom errors are additions.
interface IBrokerRegistry {
    /// @param operator Wallet that runs the broker and signs its answers; zero once the entry is removed.
    /// @param requestsContract The broker's BrokerRequests.
    /// @param encryptionPubkey secp256k1 public key requests are encrypted to: 0x04 || X || Y, 65 bytes.
    /// @param region Free text chosen by the broker, such as `eu-west`.
    /// @param active Whether the broker takes requests.
    /// @param capacity Leases the broker offers; 0 = unlimited. Informative: BrokerRequests enforces its own.
    /// @param currentLoad Leases in use, as the operator last reported them.
    /// @param registeredAt Unix seconds.
    struct Broker {
        address operator;
        address requestsContract;
        bytes encryptionPubkey;
        string region;
        bool active;
        uint256 capacity;
        uint256 currentLoad;
        uint256 registeredAt;
    }

    event BrokerRegistered(uint256 indexed brokerId, address indexed operator, address requestsContract, string region);
    event BrokerUpdated(uint256 indexed brokerId, address indexed operator);
    event BrokerDeactivated(uint256 indexed brokerId, address indexed operator);
    event BrokerActivated(uint256 indexed brokerId, address indexed operator);
    event BrokerLoadUpdated(uint256 indexed brokerId, uint256 currentLoad);
    /// @notice The entry is gone for good: its operator and requests contract may register again.
    event BrokerRemoved(uint256 indexed brokerId, address indexed operator);
    /// @notice The entry is run by another wallet from here on.
    event OperatorRotated(uint256 indexed brokerId, address indexed from, address indexed to);

    /// @notice No entry has this id (ids are 1..getBrokerCount()).
    error InvalidBrokerId(uint256 brokerId);
    /// @notice The entry was removed before.
    error BrokerAlreadyRemoved(uint256 brokerId);
    error ZeroAddress();
    /// @notice Not an uncompressed secp256k1 point: 65 bytes, first 0x04, on the curve.
    error InvalidPubkey(bytes encryptionPubkey);
    error EmptyRegion();
    /// @notice The wallet already runs another live entry.
    error OperatorTaken(address operator, uint256 brokerId);
    /// @notice The requests contract already belongs to an entry that was not removed.
    error RequestsContractTaken(address requestsContract, uint256 brokerId);
    /// @notice The caller runs no live entry.
    error NotOperator(address caller);
    error LoadAboveCapacity(uint256 load, uint256 capacity);

    /// @notice Adds a broker. Only the registry's owner, who vouches for the operator.
    /// An operator that already runs an entry moves to the new one; the old entry is deactivated and stays readable.
    /// @param capacity Leases; 0 = unlimited.
    /// @return brokerId The new entry's id.
    function registerBroker(
        address operator,
        address requestsContract,
        bytes calldata encryptionPubkey,
        string calldata region,
        uint256 capacity
    ) external returns (uint256 brokerId);

    /// @notice Replaces the key requests are encrypted to. Only the operator.
    function updateEncryptionPubkey(bytes calldata encryptionPubkey) external;

    /// @notice Renames the region; not empty. Only the operator.
    function updateRegion(string calldata region) external;

    /// @notice Sets the number of leases offered; 0 = unlimited, below the load = full. Only the operator.
    function updateCapacity(uint256 capacity) external;

    /// @notice Reports the leases in use; at most the capacity unless that is 0. Only the operator.
    function updateLoad(uint256 currentLoad) external;

    /// @notice Points the entry at another BrokerRequests; the former one may be registered again. Only the operator.
    function updateRequestsContract(address requestsContract) external;

    /// @notice Hands the entry to another wallet, at once and for good. Only the operator.
    function rotateOperator(address newOperator) external;

    /// @notice Stops offering the broker to clients. Only the operator.
    function deactivate() external;

    /// @notice Offers the broker to clients again. Only the operator.
    function activate() external;

    /// @notice Retires an entry: inactive, operator zero, slot kept. Only the registry's owner.
    /// An entry its operator has moved on from can be removed without touching the one that replaced it.
    function removeBroker(uint256 brokerId) external;

    /// @notice One entry. Reverts with InvalidBrokerId for 0 and above getBrokerCount().
    function getBroker(uint256 brokerId) external view returns (Broker memory);

    /// @notice Number of entries ever made, removed and inactive ones included; the highest id.
    function getBrokerCount() external view returns (uint256);

    /// @notice Whether the wallet runs a live entry (active or not).
    function isOperator(address operator) external view returns (bool);

    /// @notice The entries by zero-based index: brokers(i) is getBroker(i + 1), flat.
    function brokers(uint256 index)
        external
        view
        returns (
            address operator,
            address requestsContract,
            bytes memory encryptionPubkey,
            string memory region,
            bool active,
            uint256 capacity,
            uint256 currentLoad,
            uint256 registeredAt
        );

    /// @notice The live entry of a wallet; 0 = none.
    function operatorToBrokerId(address operator) external view returns (uint256);

    /// @notice The entry of a requests contract; 0 = none.
    function requestsContractToBrokerId(address requestsContract) external view returns (uint256);
}
